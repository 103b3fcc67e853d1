use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    bench::{Bench, check, panics_as_scripted},
    cancelling::{AWAITS, TIMES},
};
use crate::{
    Answer, Readiness, Scripted,
    start::{make_ready, poll_ready},
};

/// A panic of the inner service, in `call` or wherever its future waits, gives everything back:
/// both when the call is dropped by the panic itself, and when, as tokio does, the panic is caught
/// first and the call dropped afterwards.
///
/// # Panics
///
/// When the law is broken.
pub fn a_panic_at_any_await_point_leaves_nothing_behind<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    let answers = (0..=AWAITS).map(Answer::PanicAfter).chain([Answer::PanicInCall]);
    for answer in answers {
        for is_dropped_later in [false, true] {
            check(&make, |mut bench| {
                for _ in 0..TIMES {
                    bench.script.answer(answer);
                    let panicked = if is_dropped_later {
                        is_caught_before_the_drop(&mut bench)
                    } else {
                        is_dropped_by_the_panic(&mut bench)
                    };
                    assert!(panicked, "law broken: the panic of the inner service was swallowed");
                }
                bench.goes_on(&format!("{TIMES} panics, {answer:?}"));
            });
        }
    }
}

fn is_dropped_by_the_panic<S>(bench: &mut Bench<'_, S>) -> bool
where
    S: Service<u32, Response = u32, Error = BoxError>,
{
    panics_as_scripted(|| {
        let mut call = bench.start(1);
        let _ = bench.finish(&mut call);
    })
}

fn is_caught_before_the_drop<S>(bench: &mut Bench<'_, S>) -> bool
where
    S: Service<u32, Response = u32, Error = BoxError>,
{
    let mut call = None;
    let in_call = panics_as_scripted(|| call = Some(bench.start(1)));
    in_call || call.is_some_and(|mut call| panics_as_scripted(|| drop(bench.finish(&mut call))))
}

/// A panic of the inner service in `poll_ready` leaves the layer whole.
///
/// # Panics
///
/// When the law is broken.
pub fn a_panic_in_poll_ready_leaves_it_whole<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    check(make, |mut bench| {
        for _ in 0..TIMES {
            bench.script.readiness(Readiness::Panic);
            let mut clone = bench.service.clone();
            panics_as_scripted(|| drop(poll_ready(&mut clone)));
            panics_as_scripted(|| drop(poll_ready(&mut bench.service)));
            bench.script.readiness(Readiness::Ready);
            make_ready(&mut clone);
        }
        bench.goes_on(&format!("{TIMES} panics in `poll_ready`"));
    });
}
