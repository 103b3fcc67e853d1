//! A limit of five calls at a time that does one thing wrong.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use outrigger_testing::{Scripted, ScriptedFuture};
use tokio::time::Sleep;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

/// What a layer does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    AnswersSomethingElse,
    AnswersTooEarly,
    CallsAFreshClone,
    CopiesReadiness,
    IsAlwaysReady,
    KeepsItsPlaceWhenOver,
    KeepsItsReadiness,
    KeepsTheFinishedFuture,
    KeepsTheFirstWaker,
    LeaksTheInnerFuture,
    LocksAroundPollReady,
    LooksAtTheClock,
    LosesAReadyWakeUp,
    LosesAWakeUp,
    LosesItsPlaceInAPanic,
    LosesItsPlaceInACaughtPanic,
    LosesItsPlaceWhenDropped,
    PollsTheInnerTwice,
    ParksAPlaceBelow,
    Spins,
    SpinsInPollReady,
    SwallowsErrors,
    SwallowsPanics,
    SwallowsReadyErrors,
    TakesAPlaceAtEachPollReady,
    TakesAPlaceInPollReady,
    TakesASecretPlaceInPollReady,
    WrapsReadyErrors,
    WrapsTheError,
}

/// How many calls run at a time.
const PLACES: usize = 5;

#[derive(Clone, Debug)]
pub(crate) struct FaultyLayer {
    fault: Fault,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    taken: AtomicUsize,
    lock: Mutex<()>,
}

pub(crate) fn faulty(fault: Fault) -> impl Fn() -> FaultyLayer {
    move || FaultyLayer { fault, shared: Arc::default() }
}

impl<S> Layer<S> for FaultyLayer {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        let Self { fault, shared } = self.clone();
        Faulty { inner, fault, shared, is_ready: false, place: None }
    }
}

#[derive(Debug)]
pub(crate) struct Faulty<S> {
    inner: S,
    fault: Fault,
    shared: Arc<Shared>,
    is_ready: bool,
    /// Taken in `call` by a good layer, and so `None` between calls.
    place: Option<Place>,
}

impl<S> Faulty<S> {
    pub(crate) fn take_a_place_for_ever(&self) {
        self.shared.taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn has_a_place_taken(&self) -> bool {
        self.shared.taken.load(Ordering::Relaxed) > 0
    }

    fn take_place(&self) -> Option<Place> {
        let taken = self.shared.taken.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        let place = Place { fault: self.fault, shared, is_over: false, is_polled: false };
        (taken < PLACES).then_some(place)
    }
}

impl<S: Clone> Clone for Faulty<S> {
    fn clone(&self) -> Self {
        let is_ready = self.is_ready && self.fault == Fault::CopiesReadiness;
        let shared = Arc::clone(&self.shared);
        Self { inner: self.inner.clone(), fault: self.fault, shared, is_ready, place: None }
    }
}

impl Service<u32> for Faulty<Scripted> {
    type Response = u32;
    type Error = BoxError;
    type Future = FaultyFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let fault = self.fault;
        if self.is_ready || fault == Fault::IsAlwaysReady {
            return Poll::Ready(Ok(()));
        }
        let takes = match fault {
            Fault::TakesAPlaceInPollReady => self.place.is_none(),
            Fault::TakesAPlaceAtEachPollReady => true,
            _ => false,
        };
        if fault == Fault::TakesASecretPlaceInPollReady {
            std::mem::forget(self.take_place());
        } else if takes && let Some(place) = self.take_place() {
            std::mem::forget(self.place.replace(place));
        } else if takes {
            return Poll::Pending;
        }
        let noop = &mut Context::from_waker(Waker::noop());
        let inner_cx = if fault == Fault::LosesAReadyWakeUp { noop } else { &mut *cx };
        let shared = Arc::clone(&self.shared);
        let locks = fault == Fault::LocksAroundPollReady;
        let lock = locks.then(|| shared.lock.lock().expect("a lock that is whole"));
        let ready = self.inner.poll_ready(inner_cx);
        drop(lock);
        if ready.is_pending() && fault == Fault::SpinsInPollReady {
            cx.waker().wake_by_ref();
        }
        self.is_ready =
            ready.is_ready() && matches!(fault, Fault::CopiesReadiness | Fault::KeepsItsReadiness);
        match ready {
            Poll::Ready(Err(_)) if fault == Fault::SwallowsReadyErrors => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) if fault == Fault::WrapsReadyErrors => {
                Poll::Ready(Err(format!("wrapped: {error}").into()))
            }
            ready => ready,
        }
    }

    fn call(&mut self, request: u32) -> FaultyFuture {
        let fault = self.fault;
        self.is_ready &= fault == Fault::KeepsItsReadiness;
        let place = self.place.take().or_else(|| self.take_place());
        let spare = self.inner.clone();
        let response = place.is_some().then(|| match fault {
            Fault::CallsAFreshClone => self.inner.clone().call(request),
            _ => self.inner.call(request),
        });
        FaultyFuture { fault, response, place, waker: None, timer: None, spare, parked: None }
    }
}

/// One of the places, which a good layer gives back however the call ends.
#[derive(Debug)]
struct Place {
    fault: Fault,
    shared: Arc<Shared>,
    is_over: bool,
    is_polled: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let is_lost = match self.fault {
            Fault::LosesItsPlaceWhenDropped => !self.is_over,
            Fault::LosesItsPlaceInAPanic => std::thread::panicking(),
            Fault::LosesItsPlaceInACaughtPanic => self.is_polled && !std::thread::panicking(),
            _ => false,
        };
        if !is_lost {
            self.shared.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
pub(crate) struct FaultyFuture {
    fault: Fault,
    /// `None` waits for ever.
    response: Option<ScriptedFuture>,
    place: Option<Place>,
    /// Of the first poll.
    waker: Option<Waker>,
    timer: Option<Pin<Box<Sleep>>>,
    spare: Scripted,
    parked: Option<Scripted>,
}

impl FaultyFuture {
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Result<u32, BoxError>> {
        let Some(response) = &mut self.response else { return Poll::Pending };
        let first = self.waker.get_or_insert_with(|| cx.waker().clone()).clone();
        let waker = match self.fault {
            Fault::LosesAWakeUp => Waker::noop(),
            Fault::KeepsTheFirstWaker => &first,
            _ => cx.waker(),
        };
        let inner_cx = &mut Context::from_waker(waker);
        if self.fault == Fault::SwallowsPanics {
            let poll = std::panic::AssertUnwindSafe(|| Pin::new(response).poll(inner_cx));
            return std::panic::catch_unwind(poll).unwrap_or(Poll::Ready(Ok(0)));
        }
        let poll = Pin::new(&mut *response).poll(inner_cx);
        match self.fault {
            Fault::AnswersTooEarly if poll.is_pending() => Poll::Ready(Ok(0)),
            Fault::PollsTheInnerTwice if poll.is_pending() => Pin::new(response).poll(inner_cx),
            _ => poll,
        }
    }

    /// Comes back each 10 ms, to see whether there is something to do.
    fn look_at_the_clock(&mut self, cx: &mut Context<'_>) {
        let each = Duration::from_millis(10);
        let mut timer = Box::pin(tokio::time::sleep(each));
        while timer.as_mut().poll(cx).is_ready() {
            timer = Box::pin(tokio::time::sleep(each));
        }
        self.timer = Some(timer);
    }

    fn end(&mut self) {
        if self.fault != Fault::KeepsTheFinishedFuture {
            self.response = None;
        }
        if self.fault == Fault::ParksAPlaceBelow {
            let mut parked = self.spare.clone();
            let _ = parked.poll_ready(&mut Context::from_waker(Waker::noop()));
            self.parked = Some(parked);
        }
        if self.fault != Fault::KeepsItsPlaceWhenOver
            && let Some(mut place) = self.place.take()
        {
            place.is_over = true;
        }
    }
}

impl Drop for FaultyFuture {
    fn drop(&mut self) {
        if self.fault == Fault::LeaksTheInnerFuture {
            std::mem::forget(self.response.take());
        }
    }
}

impl Future for FaultyFuture {
    type Output = Result<u32, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.place.iter_mut().for_each(|place| place.is_polled = true);
        let poll = self.poll_inner(cx);
        self.place.iter_mut().for_each(|place| place.is_polled = false);
        if poll.is_pending() && self.fault == Fault::Spins {
            cx.waker().wake_by_ref();
        }
        if poll.is_pending() && self.fault == Fault::LooksAtTheClock {
            self.look_at_the_clock(cx);
        }
        let result = ready!(poll);
        self.end();
        Poll::Ready(match (self.fault, result) {
            (Fault::WrapsTheError, Err(error)) => Err(format!("wrapped: {error}").into()),
            (Fault::SwallowsErrors, Err(_)) | (Fault::AnswersSomethingElse, _) => Ok(0),
            (_, result) => result,
        })
    }
}
