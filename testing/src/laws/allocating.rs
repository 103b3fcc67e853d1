use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::bench::check;
use crate::Scripted;

/// A call that succeeds at once allocates nothing, once the first few have made what is made once.
///
/// # Panics
///
/// When the law is broken, or a call does not go through.
pub fn a_call_allocates_nothing<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    const CALLS: u32 = 1_000;
    check(make, |mut bench| {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut call = || {
            assert!(bench.service.poll_ready(cx).is_ready());
            let call = pin!(bench.service.call(1));
            assert!(matches!(call.poll(cx), Poll::Ready(Ok(2))), "a call does not go through");
        };
        (0..10).for_each(|_| call());
        let counted = allocation_counter::measure(|| (0..CALLS).for_each(|_| call()));
        let (count, bytes) = (counted.count_total, counted.bytes_total);
        assert!(count == 0, "law broken: {count} allocations of {bytes} bytes in {CALLS} calls");
    });
}
