use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use tokio_test::task;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::{bench::check, cancelling::TIMES};
use crate::{
    Answer, Readiness, Scripted, ScriptedError, start,
    start::{make_ready, poll_ready},
};

/// The inner value that is called is the one that was polled ready: in this service, in its clones,
/// and when calls fail.
///
/// The scripted inner service panics when it is called unready.
///
/// # Panics
///
/// When the law is broken.
pub fn readiness_belongs_to_the_value_that_is_called<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    check(make, |mut bench| {
        for request in 0..100 {
            let mut clone = bench.service.clone();
            let well = request % 10 != 0;
            bench.script.answer(if well { Answer::OkAfter(1) } else { Answer::Error });
            let (mut one, mut other) = (bench.start(request), start(&mut clone, request));
            for call in [&mut one, &mut other] {
                let result = bench.finish(call).ok();
                let right = well.then_some(request + 1);
                assert!(result == right, "law broken: an answer was lost on its way");
            }
            bench.service = clone;
        }
    });
}

/// A clone of a ready service is not ready: it asks its own inner value.
///
/// # Panics
///
/// When the law is broken.
pub fn clones_copy_no_readiness<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    check(make, |mut bench| {
        make_ready(&mut bench.service);
        bench.script.readiness(Readiness::Pending);
        let mut clone = bench.service.clone();
        if poll_ready(&mut clone).is_ready() {
            // Some layers wait for the inner service in the call's future. Those that believed
            // the original's readiness call an unready value now, which panics.
            let _ = task::spawn(clone.call(1)).poll();
        }
    });
}

/// Services that are ready and never call take nothing from the others: twenty are dropped, nine
/// are parked, and another still calls.
///
/// # Panics
///
/// When the law is broken.
pub fn a_ready_clone_that_never_calls_holds_nothing<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    check(make, |mut bench| {
        for _ in 0..TIMES {
            let _ = poll_ready(&mut bench.service.clone());
        }
        let mut parked: Vec<_> = (0..9).map(|_| bench.service.clone()).collect();
        for clone in &mut parked {
            let _ = poll_ready(clone);
        }
        assert!(
            matches!(poll_ready(&mut bench.service), Poll::Ready(Ok(()))),
            "law broken: clones that are ready and never call keep another from being ready"
        );
        let mut call = task::spawn(bench.service.call(1));
        let result = catch_unwind(AssertUnwindSafe(|| bench.finish(&mut call)));
        assert!(
            matches!(result, Ok(Ok(2))),
            "law broken: clones that are ready and never call keep another from calling"
        );
    });
}

/// The inner service's readiness is the layer's: pending is passed on with the waker, an error as
/// it is.
///
/// Layers that wait for the inner service in the call's future, as a balancer does, need not keep
/// this one.
///
/// # Panics
///
/// When the law is broken.
pub fn readiness_is_forwarded<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    check(make, |mut bench| {
        let (service, script) = (&mut bench.service, &bench.script);
        script.readiness(Readiness::Pending);
        let mut task = task::spawn(());
        let ready = task.enter(|cx, _| service.poll_ready(cx));
        assert!(ready.is_pending(), "law broken: ready, though the inner service is not");
        assert!(!task.is_woken(), "law broken: woken while the inner service is not ready");
        script.readiness(Readiness::ReadyAfter(1));
        assert!(task.is_woken(), "law broken: not woken when the inner service became ready");
        let ready = task.enter(|cx, _| service.poll_ready(cx));
        assert!(ready.is_pending(), "law broken: ready, though the inner service is not");
        assert!(task.is_woken(), "law broken: not woken when the inner service became ready");
        make_ready(service);

        script.readiness(Readiness::Error);
        match task.enter(|cx, _| service.poll_ready(cx)) {
            Poll::Ready(Err(error)) => assert!(
                error.is::<ScriptedError>(),
                "law broken: the error of `poll_ready` became {error:?}"
            ),
            ready => panic!("law broken: the error of `poll_ready` became {ready:?}"),
        }
    });
}

/// Readiness is for one call: after it the inner service is asked again, and asking several times
/// before it does no harm.
///
/// Layers that wait for the inner service in the call's future need not keep this one.
///
/// # Panics
///
/// When the law is broken.
pub fn a_call_uses_its_readiness_up<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    check(make, |mut bench| {
        for _ in 0..3 {
            for _ in 0..3 {
                make_ready(&mut bench.service);
            }
            let mut call = bench.start(1);
            bench.script.readiness(Readiness::Pending);
            let ready = poll_ready(&mut bench.service);
            assert!(ready.is_pending(), "law broken: ready for a second call without asking");
            bench.script.readiness(Readiness::Ready);
            let result = bench.finish(&mut call);
            assert!(
                result.is_ok(),
                "law broken: a willing inner service, but the layer says {result:?}"
            );
        }
    });
}
