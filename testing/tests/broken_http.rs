//! Each law of a body is seen to fail on a layer that breaks it, and to hold for one that does not.

#![cfg(feature = "http")]

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use outrigger_testing::{ScriptedBody, ScriptedHttp, laws};
use support::assert_broken;
use tower::{BoxError, Service, layer::util::Identity};
use tower_layer::Layer;

/// What a layer does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    DropsTrailers,
    KeepsItsPlaceWhenOver,
    KeepsTheBody,
    LiesAboutTheEnd,
    LosesAWakeUp,
    LosesItsPlaceInAPanic,
    LosesItsPlaceInACaughtPanic,
    LosesItsPlaceWhenDropped,
    SwallowsErrors,
    SwallowsPanics,
    WaitsTooLong,
    WrapsErrors,
}

/// How many bodies flow at a time.
const PLACES: usize = 5;

#[derive(Clone, Debug)]
struct FaultyLayer {
    fault: Fault,
    taken: Arc<AtomicUsize>,
}

fn faulty(fault: Fault) -> impl Fn() -> FaultyLayer {
    move || FaultyLayer { fault, taken: Arc::default() }
}

impl Layer<ScriptedHttp> for FaultyLayer {
    type Service = Faulty;

    fn layer(&self, inner: ScriptedHttp) -> Faulty {
        Faulty { inner, layer: self.clone() }
    }
}

#[derive(Clone, Debug)]
struct Faulty {
    inner: ScriptedHttp,
    layer: FaultyLayer,
}

impl Service<Request<()>> for Faulty {
    type Response = Response<FaultyBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Service::<Request<()>>::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let FaultyLayer { fault, taken } = self.layer.clone();
        let is_full = taken.fetch_add(1, Ordering::Relaxed) >= PLACES;
        let place = Place { fault, taken, is_over: false, is_polled: false };
        let response = self.inner.call(request);
        Box::pin(async move {
            if is_full {
                return Err("full".into());
            }
            let mut response = response.await?.map(|body| FaultyBody {
                fault,
                body: Some(Box::pin(body)),
                place: Some(place),
            });
            if response.body().is_end_stream() {
                response.body_mut().end();
            }
            Ok(response)
        })
    }
}

struct Place {
    fault: Fault,
    taken: Arc<AtomicUsize>,
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
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

struct FaultyBody {
    fault: Fault,
    body: Option<Pin<Box<ScriptedBody>>>,
    place: Option<Place>,
}

impl FaultyBody {
    fn end(&mut self) {
        if self.fault != Fault::KeepsItsPlaceWhenOver
            && let Some(mut place) = self.place.take()
        {
            place.is_over = true;
        }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let waker = if self.fault == Fault::LosesAWakeUp { Waker::noop() } else { cx.waker() };
        let cx = &mut Context::from_waker(waker);
        if self.fault == Fault::SwallowsPanics {
            let poll = AssertUnwindSafe(|| body.as_mut().poll_frame(cx));
            return catch_unwind(poll).unwrap_or(Poll::Ready(None));
        }
        body.as_mut().poll_frame(cx)
    }
}

impl Body for FaultyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.place.iter_mut().for_each(|place| place.is_polled = true);
        let poll = self.poll_inner(cx);
        self.place.iter_mut().for_each(|place| place.is_polled = false);
        let frame = ready!(poll);
        if self.fault == Fault::WaitsTooLong && frame.as_ref().is_some_and(Result::is_ok) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let is_over = self.body.as_ref().is_none_or(http_body::Body::is_end_stream);
        if is_over || !matches!(frame, Some(Ok(_))) {
            self.end();
        }
        Poll::Ready(match (self.fault, frame) {
            (Fault::DropsTrailers, Some(Ok(frame))) if frame.is_trailers() => None,
            (Fault::SwallowsErrors, Some(Err(_))) => None,
            (Fault::WrapsErrors, Some(Err(error))) => Some(Err(format!("in: {error}").into())),
            (_, frame) => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        let is_end = self.body.as_ref().is_none_or(http_body::Body::is_end_stream);
        is_end && self.fault != Fault::LiesAboutTheEnd
    }
}

impl Drop for FaultyBody {
    fn drop(&mut self) {
        if self.fault == Fault::KeepsTheBody {
            std::mem::forget(self.body.take());
        }
    }
}

#[test]
fn a_layer_that_does_nothing_wrong_keeps_every_law() {
    laws::http::all(faulty(Fault::None));
    laws::http::all(Identity::new);
}

#[test]
fn a_body_that_does_not_pass_as_it_is_is_found() {
    let law = laws::http::a_body_passes_as_it_is;
    assert_broken(|| law(faulty(Fault::DropsTrailers)), "(2, 0, false)");
    assert_broken(|| law(faulty(Fault::SwallowsErrors)), "(2, 0, false)");
    assert_broken(|| law(faulty(Fault::WrapsErrors)), "the error of a body became");
    assert_broken(|| law(faulty(Fault::LiesAboutTheEnd)), "`is_end_stream` is false of Empty");
    assert_broken(|| law(faulty(Fault::LosesAWakeUp)), "was lost");
    assert_broken(|| law(faulty(Fault::WaitsTooLong)), "the layer's is pending");
}

#[test]
fn what_a_dropped_body_leaves_behind_is_found() {
    let law = laws::http::dropping_a_body_at_any_frame_leaves_nothing_behind;
    assert_broken(|| law(faulty(Fault::LosesItsPlaceWhenDropped)), "does not go through");
    assert_broken(|| law(faulty(Fault::KeepsTheBody)), "20 inner bodies are still alive");
}

#[test]
fn what_a_panic_in_a_body_leaves_behind_is_found() {
    let law = laws::http::a_panic_in_a_body_leaves_nothing_behind;
    for fault in [Fault::LosesItsPlaceInAPanic, Fault::LosesItsPlaceInACaughtPanic] {
        assert_broken(|| law(faulty(fault)), "does not go through");
    }
    assert_broken(|| law(faulty(Fault::SwallowsPanics)), "was swallowed");
}

#[test]
fn a_place_that_is_held_beyond_the_end_of_the_body_is_found() {
    let law = laws::http::a_body_that_is_over_but_kept_leaves_nothing_behind;
    assert_broken(|| law(faulty(Fault::KeepsItsPlaceWhenOver)), "does not go through");
}
