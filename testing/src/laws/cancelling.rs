use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::{check, finish, goes_on, make_ready, panics_as_scripted, start};
use crate::{Answer, Scripted};

/// How many await points the inner call has.
const AWAITS: usize = 3;

/// How often a call is cut at the same point: a layer with a few places left over must run out.
const TIMES: usize = 20;

/// A call that is dropped, wherever it waits, gives everything back: the inner future is gone, and
/// the next call goes through.
///
/// # Panics
///
/// When the law is broken.
pub fn dropping_a_call_at_any_await_point_leaves_nothing_behind<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    for polls in 0..=AWAITS {
        check(&make, |mut service, script| {
            for _ in 0..TIMES {
                script.answer(Answer::OkAfter(AWAITS));
                let mut call = start(&mut service, 1);
                for _ in 0..polls {
                    assert!(call.poll().is_pending(), "law broken: an answer came too early");
                }
                drop(call);
            }
            goes_on(&mut service, &script, &format!("{TIMES} calls dropped at poll {polls}"));
        });
    }
}

/// A panic of the inner service, in `call` or wherever its future waits, gives everything back.
///
/// # Panics
///
/// When the law is broken.
pub fn a_panic_at_any_await_point_leaves_nothing_behind<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    let panics = (0..=AWAITS).map(Answer::PanicAfter).chain([Answer::PanicInCall]);
    for answer in panics {
        check(&make, |mut service, script| {
            for _ in 0..TIMES {
                script.answer(answer);
                let panicked = panics_as_scripted(|| {
                    make_ready(&mut service);
                    let _ = finish(&mut start(&mut service, 1));
                });
                assert!(panicked, "law broken: the panic of the inner service was swallowed");
            }
            goes_on(&mut service, &script, &format!("{TIMES} panics, {answer:?}"));
        });
    }
}

/// A call that is over but whose future is kept, as `select!` and `join!` do, holds nothing.
///
/// # Panics
///
/// When the law is broken.
pub fn a_finished_call_that_is_kept_leaves_nothing_behind<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    for answer in [Answer::OkAfter(1), Answer::Error] {
        check(&make, |mut service, script| {
            let finished = |_| {
                script.answer(answer);
                let mut call = start(&mut service, 1);
                let _ = finish(&mut call);
                call
            };
            let kept: Vec<_> = (0..3).map(finished).collect();
            goes_on(&mut service, &script, "calls that are over but kept");
            drop(kept);
        });
    }
}
