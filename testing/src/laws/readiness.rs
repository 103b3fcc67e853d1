use std::task::Poll;

use tokio_test::task;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::{check, finish, make_ready, start};
use crate::{Answer, Readiness, Scripted, ScriptedError};

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
    check(make, |mut service, script| {
        for request in 0..100 {
            let mut clone = service.clone();
            let well = request % 10 != 0;
            script.answer(if well { Answer::OkAfter(1) } else { Answer::Error });
            let (mut one, mut other) = (start(&mut service, request), start(&mut clone, request));
            for call in [&mut one, &mut other] {
                let result = finish(call).ok();
                let right = well.then_some(request + 1);
                assert!(result == right, "law broken: an answer was lost on its way");
            }
            service = clone;
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
    check(make, |mut service, script| {
        make_ready(&mut service);
        script.readiness(Readiness::Pending);
        let mut clone = service.clone();
        let ready = task::spawn(()).enter(|cx, _| clone.poll_ready(cx));
        if ready.is_ready() {
            // Some layers wait for the inner service in the call's future. Those that believed
            // the original's readiness call an unready value now, which panics.
            let mut call = task::spawn(clone.call(1));
            let early = call.poll().is_ready() && script.calls() > 0;
            assert!(!early, "law broken: a clone believed the readiness of its original");
        }
    });
}

/// Services that are ready and never call take nothing from the others.
///
/// # Panics
///
/// When the law is broken.
pub fn a_ready_clone_that_never_calls_holds_nothing<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    check(make, |service, _script| {
        let mut clones: Vec<_> = (0..10).map(|_| service.clone()).collect();
        let (caller, parked) = clones.split_first_mut().expect("ten of them");
        for clone in &mut *parked {
            make_ready(clone);
        }
        let ready = task::spawn(()).enter(|cx, _| caller.poll_ready(cx));
        assert!(
            matches!(ready, Poll::Ready(Ok(()))),
            "law broken: clones that are ready and never call keep another from being ready"
        );
        let result = finish(&mut task::spawn(caller.call(1)));
        assert!(
            result.is_ok_and(|answer| answer == 2),
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
    check(make, |mut service, script| {
        script.readiness(Readiness::Pending);
        let mut task = task::spawn(());
        let ready = task.enter(|cx, _| service.poll_ready(cx));
        assert!(ready.is_pending(), "law broken: ready, though the inner service is not");
        assert!(!task.is_woken(), "law broken: woken while the inner service is not ready");
        script.readiness(Readiness::Ready);
        assert!(task.is_woken(), "law broken: not woken when the inner service became ready");
        make_ready(&mut service);

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
