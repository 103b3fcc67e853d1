//! Each law is seen to fail on a layer that breaks it, and to hold for one that does not.

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use outrigger_testing::{Script, Scripted, ScriptedFuture, laws};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

/// What a layer does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    CallsAFreshClone,
    CopiesReadiness,
    TakesAPlaceInPollReady,
    IsAlwaysReady,
    SwallowsReadyErrors,
    WrapsTheError,
    LosesItsPlaceWhenDropped,
    LosesItsPlaceInAPanic,
    KeepsTheFinishedFuture,
    Spins,
    LosesAWakeUp,
}

/// How many calls a faulty layer lets through at a time.
const PLACES: usize = 5;

#[derive(Clone, Debug)]
struct FaultyLayer {
    fault: Fault,
    taken: Arc<AtomicUsize>,
}

fn faulty(fault: Fault) -> impl Fn() -> FaultyLayer {
    move || FaultyLayer { fault, taken: Arc::default() }
}

impl<S> Layer<S> for FaultyLayer {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        let Self { fault, taken } = self.clone();
        Faulty { inner, fault, taken, is_ready: false }
    }
}

#[derive(Debug)]
struct Faulty<S> {
    inner: S,
    fault: Fault,
    taken: Arc<AtomicUsize>,
    is_ready: bool,
}

impl<S: Clone> Clone for Faulty<S> {
    fn clone(&self) -> Self {
        let is_ready = self.is_ready && self.fault == Fault::CopiesReadiness;
        Self { inner: self.inner.clone(), taken: Arc::clone(&self.taken), is_ready, ..*self }
    }
}

impl Service<u32> for Faulty<Scripted> {
    type Response = u32;
    type Error = BoxError;
    type Future = FaultyFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.is_ready || self.fault == Fault::IsAlwaysReady {
            return Poll::Ready(Ok(()));
        }
        if self.fault == Fault::TakesAPlaceInPollReady
            && self.taken.fetch_add(1, Ordering::Relaxed) >= PLACES
        {
            return Poll::Pending;
        }
        let ready = self.inner.poll_ready(cx);
        if self.fault == Fault::SwallowsReadyErrors && matches!(ready, Poll::Ready(Err(_))) {
            return Poll::Ready(Ok(()));
        }
        self.is_ready = self.fault == Fault::CopiesReadiness && ready.is_ready();
        ready
    }

    fn call(&mut self, request: u32) -> FaultyFuture {
        self.is_ready = false;
        let counts =
            matches!(self.fault, Fault::LosesItsPlaceWhenDropped | Fault::LosesItsPlaceInAPanic);
        if counts && self.taken.fetch_add(1, Ordering::Relaxed) >= PLACES {
            return FaultyFuture { response: None, place: None, fault: self.fault };
        }
        let place = Place { fault: self.fault, taken: Arc::clone(&self.taken), is_over: false };
        let response = if self.fault == Fault::CallsAFreshClone {
            self.inner.clone().call(request)
        } else {
            self.inner.call(request)
        };
        FaultyFuture { response: Some(response), place: Some(place), fault: self.fault }
    }
}

/// One of the places, which a good layer gives back however the call ends.
#[derive(Debug)]
struct Place {
    fault: Fault,
    taken: Arc<AtomicUsize>,
    is_over: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let is_lost = match self.fault {
            Fault::LosesItsPlaceWhenDropped => !self.is_over,
            Fault::LosesItsPlaceInAPanic => std::thread::panicking(),
            _ => true,
        };
        if !is_lost {
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

struct FaultyFuture {
    /// `None` waits for ever.
    response: Option<ScriptedFuture>,
    place: Option<Place>,
    fault: Fault,
}

impl Future for FaultyFuture {
    type Output = Result<u32, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let fault = self.fault;
        let Some(response) = &mut self.response else { return Pin::new(&mut pending()).poll(cx) };
        let noop = &mut Context::from_waker(Waker::noop());
        let inner_cx = if fault == Fault::LosesAWakeUp { noop } else { &mut *cx };
        let poll = Pin::new(response).poll(inner_cx);
        if poll.is_pending() && fault == Fault::Spins {
            cx.waker().wake_by_ref();
        }
        if poll.is_ready() {
            if fault != Fault::KeepsTheFinishedFuture {
                self.response = None;
            }
            if let Some(mut place) = self.place.take() {
                place.is_over = true;
            }
        }
        match poll {
            Poll::Ready(Err(error)) if fault == Fault::WrapsTheError => {
                Poll::Ready(Err(format!("wrapped: {error}").into()))
            }
            poll => poll,
        }
    }
}

/// Why `law` failed; `None` if it held.
fn broken(law: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(law)).err()?;
    let said = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    said.or_else(|| panic.downcast_ref::<String>().cloned())
}

#[track_caller]
fn assert_broken(law: impl FnOnce(), how: &str) {
    let said = broken(law).expect("the law holds for a layer that breaks it");
    assert!(said.starts_with("law broken") && said.contains(how), "{said}");
}

#[test]
fn a_layer_that_does_nothing_wrong_keeps_every_law() {
    laws::all(faulty(Fault::None));
}

#[test]
fn a_layer_that_calls_a_fresh_clone_is_found() {
    let law = || {
        laws::readiness_belongs_to_the_value_that_is_called(faulty(Fault::CallsAFreshClone));
    };
    assert_broken(law, "not polled ready");
}

#[test]
fn a_layer_that_never_asks_the_inner_service_is_found() {
    let law = || laws::readiness_belongs_to_the_value_that_is_called(faulty(Fault::IsAlwaysReady));
    assert_broken(law, "not polled ready");
    let law = || laws::readiness_is_forwarded(faulty(Fault::IsAlwaysReady));
    assert_broken(law, "though the inner service is not");
}

#[test]
fn a_clone_that_copies_readiness_is_found() {
    let law = || laws::clones_copy_no_readiness(faulty(Fault::CopiesReadiness));
    assert_broken(law, "not polled ready");
}

#[test]
fn a_layer_that_takes_a_place_in_poll_ready_is_found() {
    let fault = Fault::TakesAPlaceInPollReady;
    let law = || laws::a_ready_clone_that_never_calls_holds_nothing(faulty(fault));
    assert_broken(law, "but the layer is Pending");
}

#[test]
fn a_layer_that_swallows_errors_of_readiness_is_found() {
    let law = || laws::readiness_is_forwarded(faulty(Fault::SwallowsReadyErrors));
    assert_broken(law, "the error of `poll_ready` became");
}

#[test]
fn a_layer_that_wraps_the_users_error_is_found() {
    let law = || laws::the_users_error_stays(faulty(Fault::WrapsTheError));
    assert_broken(law, "the user's error became");
}

#[test]
fn a_place_lost_with_a_dropped_call_is_found() {
    let fault = Fault::LosesItsPlaceWhenDropped;
    let law = || laws::dropping_a_call_at_any_await_point_leaves_nothing_behind(faulty(fault));
    assert_broken(law, "");
}

#[test]
fn a_place_lost_in_a_panic_is_found() {
    let fault = Fault::LosesItsPlaceInAPanic;
    let law = || laws::a_panic_at_any_await_point_leaves_nothing_behind(faulty(fault));
    assert_broken(law, "");
}

#[test]
fn a_finished_call_that_keeps_the_inner_future_is_found() {
    let fault = Fault::KeepsTheFinishedFuture;
    let law = || laws::a_finished_call_that_is_kept_leaves_nothing_behind(faulty(fault));
    assert_broken(law, "still alive");
}

#[test]
fn a_call_that_spins_or_loses_its_wake_up_is_found() {
    let law = || laws::no_wake_up_is_lost_or_spun(faulty(Fault::Spins));
    assert_broken(law, "wakes itself");
    let law = || laws::no_wake_up_is_lost_or_spun(faulty(Fault::LosesAWakeUp));
    assert_broken(law, "was lost");
}

#[test]
fn state_that_is_made_for_each_service_is_found() {
    let fill = |service: &mut Faulty<Scripted>, _: &Script| {
        service.taken.fetch_add(1, Ordering::Relaxed);
    };
    let is_filled = |service: &mut Faulty<Scripted>| service.taken.load(Ordering::Relaxed) > 0;
    laws::a_layer_applied_twice_shares_its_state(faulty(Fault::None), fill, is_filled);

    let apart = || tower::layer::layer_fn(|inner| faulty(Fault::None)().layer(inner));
    let law = || laws::a_layer_applied_twice_shares_its_state(apart, fill, is_filled);
    assert_broken(law, "a state each");
}

#[test]
fn a_future_that_has_grown_is_found() {
    laws::is_send_and_at_most::<[u8; 100]>(100);
    assert_broken(laws_of_a_large_future, "101 bytes");
}

fn laws_of_a_large_future() {
    laws::is_send_and_at_most::<[u8; 101]>(100);
}
