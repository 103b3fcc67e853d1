//! What every law works with: a service over a script, and time that only the law lets pass.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};
use tokio_test::task::Spawn;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Answer, Script, Scripted, start};

/// More polls than any call over a scripted inner service needs.
const MANY: usize = 100;

/// Longer than any wait of a layer whose inner service is willing.
pub(super) const LONG: Duration = Duration::from_secs(3_600);

/// A service to put to a law. Nothing runs and no time passes but by its leave.
pub(super) struct Bench<'a, S> {
    pub(super) service: S,
    pub(super) script: Script,
    pub(super) clock: &'a Clock,
}

/// Runs `law` over a layer from `make`.
pub(super) fn check<L, R>(make: impl Fn() -> L, law: impl FnOnce(Bench<'_, L::Service>) -> R) -> R
where
    L: Layer<Scripted>,
{
    check_service(|script| make().layer(Scripted::new(script)), law)
}

/// Runs `law` over the service that `make` makes for a script.
pub(super) fn check_service<S, R>(
    make: impl FnOnce(Script) -> S,
    law: impl FnOnce(Bench<'_, S>) -> R,
) -> R {
    let clock = Clock::new();
    let _entered = clock.0.enter();
    let script = Script::default();
    law(Bench { service: make(script.clone()), script, clock: &clock })
}

/// A runtime whose time stands still while a law polls by hand.
pub(super) struct Clock(Runtime);

impl Clock {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        Self(runtime.expect("a runtime with nothing but a clock"))
    }

    /// Lets tasks run that the layer may have spawned. No time passes.
    pub(super) fn settle(&self) {
        self.0.block_on(async {
            for _ in 0..MANY {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Lets `time` pass at most, until `future` is over.
    pub(super) fn limit<F: Future>(&self, time: Duration, future: F) -> Option<F::Output> {
        self.0.block_on(async { tokio::time::timeout(time, future).await.ok() })
    }

    /// Polls a call to its end: by hand as long as somebody wakes it, and then for as long as a
    /// timer of the layer may take.
    pub(super) fn finish<F, T>(&self, call: &mut Spawn<F>) -> Result<T, BoxError>
    where
        F: Future<Output = Result<T, BoxError>>,
    {
        for _ in 0..MANY {
            if let Poll::Ready(result) = call.poll() {
                return result;
            }
            if !call.is_woken() {
                let result = self.limit(LONG, bounded(Pin::new(call)));
                return result
                    .expect("law broken: a call is pending, and nobody will ever wake it");
            }
        }
        panic!("law broken: a call did not end within {MANY} polls");
    }
}

/// Panics where `future` is polled too often.
async fn bounded<F: Future + Unpin>(mut future: F) -> F::Output {
    let mut polls = 0;
    std::future::poll_fn(|cx| {
        polls += 1;
        assert!(polls <= MANY, "law broken: a call did not end within {MANY} polls");
        Pin::new(&mut future).poll(cx)
    })
    .await
}

impl<S> Bench<'_, S>
where
    S: Service<u32, Response = u32, Error = BoxError>,
{
    /// Makes a call while the inner service is ready.
    pub(super) fn start(&mut self, request: u32) -> Spawn<S::Future> {
        start(&mut self.service, request)
    }

    pub(super) fn finish(&self, call: &mut Spawn<S::Future>) -> Result<u32, BoxError> {
        self.clock.finish(call)
    }

    /// A further call must go through as if nothing had been before.
    pub(super) fn goes_on(&mut self, after: &str) {
        self.clock.settle();
        let alive = self.script.alive();
        assert!(alive == 0, "law broken: {alive} inner futures are still alive after {after}");
        self.script.answer(Answer::Ok);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut call = self.start(1);
            self.finish(&mut call)
        }));
        let goes_through = matches!(result, Ok(Ok(2)));
        assert!(goes_through, "law broken: the next call does not go through after {after}");
    }
}

/// Whether `act` panicked because the script said so. Any other panic is a broken law.
pub(super) fn panics_as_scripted(act: impl FnOnce()) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(act)) else { return false };
    let said = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    let is_scripted = said.starts_with("the script says");
    if is_scripted || said.starts_with("law broken") {
        assert!(is_scripted, "{said}, after a panic of the inner service");
        return true;
    }
    panic!("law broken: after a panic of the inner service the layer panics itself: {said}")
}
