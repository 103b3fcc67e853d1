use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio_test::task;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::bench::check;
use crate::{Answer, Scripted, start::make_ready};

/// While the inner call waits, the layer's call is not woken; when it goes on, the layer's call is.
///
/// # Panics
///
/// When the law is broken.
pub fn no_wake_up_is_lost_or_spun<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    check(make, |mut bench| {
        bench.script.answer(Answer::Pending);
        let mut call = bench.start(1);
        for _ in 0..3 {
            assert!(call.poll().is_pending(), "law broken: an answer came too early");
            assert!(!call.is_woken(), "law broken: a call that waits wakes itself");
        }
        let polls = bench.script.polls();
        assert!(polls <= 3, "law broken: the inner future was polled {polls} times in 3");
        bench.script.answer(Answer::Ok);
        assert!(call.is_woken(), "law broken: a wake-up of the inner call was lost");
        let result = bench.finish(&mut call);
        assert!(
            result.is_ok_and(|answer| answer == 2),
            "law broken: an answer was lost on its way"
        );
    });
}

/// A call that was polled in one task and then in another is woken in the other: the waker of its
/// last poll counts.
///
/// # Panics
///
/// When the law is broken.
pub fn a_call_that_moves_is_woken_where_it_is<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    check(make, |mut bench| {
        bench.script.answer(Answer::Pending);
        make_ready(&mut bench.service);
        let mut call = pin!(bench.service.call(1));
        let (mut here, mut there) = (task::spawn(()), task::spawn(()));
        for task in [&mut here, &mut there] {
            let poll = task.enter(|cx, _| call.as_mut().poll(cx));
            assert!(poll.is_pending(), "law broken: an answer came too early");
        }
        bench.script.answer(Answer::Ok);
        assert!(there.is_woken(), "law broken: a call that moved is not woken where it is");
    });
}

/// A call whose inner one waits for `time` is not polled more than twice, nor is the inner one:
/// nobody looks now and then whether it is time.
///
/// Say a time within which the layer itself has nothing to do.
///
/// # Panics
///
/// When the law is broken.
pub fn waiting_costs_no_polls<L>(make: impl Fn() -> L, time: Duration)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    check(make, |mut bench| {
        bench.script.answer(Answer::Pending);
        make_ready(&mut bench.service);
        let mut call = pin!(bench.service.call(1));
        let mut polls = 0;
        let counted = poll_fn(|cx| {
            polls += 1;
            // More cannot end well, and a spinning call would never let the time pass.
            if polls > 2 { Poll::Ready(None) } else { call.as_mut().poll(cx).map(Some) }
        });
        match bench.clock.limit(time, counted) {
            None => {}
            Some(None) => panic!("law broken: a call that waits for {time:?} is polled again"),
            Some(Some(_)) => panic!("law broken: an answer came too early"),
        }
        let polls = bench.script.polls();
        assert!(polls <= 2, "law broken: an inner call was polled {polls} times in {time:?}");
    });
}
