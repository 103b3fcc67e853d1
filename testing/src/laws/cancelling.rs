use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::bench::check;
use crate::{Answer, Scripted};

/// How many await points the inner call has.
pub(super) const AWAITS: usize = 3;

/// How often a call is cut at the same point: a layer with a few places left over must run out.
pub(super) const TIMES: usize = 20;

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
    for (answer, most) in [(Answer::OkAfter(AWAITS), AWAITS), (Answer::Pending, 2)] {
        for polls in 0..=most {
            check(&make, |mut bench| {
                for _ in 0..TIMES {
                    bench.script.answer(answer);
                    let mut call = bench.start(1);
                    for _ in 0..polls {
                        assert!(call.poll().is_pending(), "law broken: an answer came too early");
                    }
                    drop(call);
                }
                bench.goes_on(&format!("{TIMES} calls dropped at poll {polls}, {answer:?}"));
            });
        }
    }
}

/// A call that is over but whose future is kept, as `select!` and `join!` do, holds nothing: not
/// even the inner future, which may hold more.
///
/// # Panics
///
/// When the law is broken.
pub fn a_finished_call_that_is_kept_leaves_nothing_behind<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    for answer in [Answer::Ok, Answer::OkAfter(1), Answer::Error] {
        check(&make, |mut bench| {
            let mut kept = Vec::new();
            for _ in 0..TIMES {
                bench.script.answer(answer);
                let mut call = bench.start(1);
                let _ = bench.finish(&mut call);
                kept.push(call);
            }
            bench.goes_on(&format!("{TIMES} calls that are over but kept, {answer:?}"));
            drop(kept);
        });
    }
}
