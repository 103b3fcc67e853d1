use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use tokio_test::task::{self, Spawn};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::bench::{Bench, check};
use crate::{Answer, Scripted, start::poll_ready};

/// Over an inner service whose readiness takes one of few places, as a pool of connections does,
/// the layer parks no value that holds one: where there is a single place, two clones of the
/// service call by turns, though calls fail or are dropped in between.
///
/// # Panics
///
/// When the law is broken.
pub fn a_place_below_is_never_parked<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    for answer in [Answer::Ok, Answer::Error, Answer::OkAfter(1), Answer::Pending] {
        check(&make, |mut bench| {
            bench.script.places(1);
            let mut other = bench.service.clone();
            for _ in 0..3 {
                bench.script.next_answers([answer]);
                let mut first = bench.start(1);
                if answer == Answer::Pending {
                    let mut waiting = task::spawn(());
                    let ready = waiting.enter(|cx, _| other.poll_ready(cx));
                    drop(first);
                    let is_told = matches!(ready, Poll::Ready(Ok(()))) || waiting.is_woken();
                    assert!(is_told, "law broken: a dropped call parks the inner service's place");
                } else {
                    goes_through(&bench, &mut first);
                }
                assert!(
                    matches!(poll_ready(&mut other), Poll::Ready(Ok(()))),
                    "law broken: a call that is over parks the inner service's place, {answer:?}"
                );
                let mut second = task::spawn(other.call(1));
                goes_through(&bench, &mut second);
            }
        });
    }
}

fn goes_through<S>(bench: &Bench<'_, S>, call: &mut Spawn<S::Future>)
where
    S: Service<u32, Response = u32, Error = BoxError>,
{
    let result = catch_unwind(AssertUnwindSafe(|| bench.finish(call)));
    let how = "a call waits for a place below that its own layer parks";
    assert!(result.is_ok(), "law broken: {how}");
}
