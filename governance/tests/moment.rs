//! The layers of a stack share their looks at the clock; the user's service is outside of that.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use outrigger::{Format, Governance, PolicySet};
use outrigger_core::{MethodRef, Moment, Rejection};
use tower::{Layer, Service, ServiceExt, layer::layer_fn, service_fn};

const SECOND: Duration = Duration::from_secs(1);

type Call = &'static str;

#[expect(clippy::unnecessary_wraps, reason = "the shape of a namer")]
fn name(call: &Call) -> Option<MethodRef<'_>> {
    Some(MethodRef { service: "shop.Cart", method: call })
}

/// Work that takes a second, and does not wait.
fn work() {
    let mut second = tokio_test::task::spawn(tokio::time::advance(SECOND));
    let _ = second.poll();
}

/// How long `inside` takes, as a layer sees it that asks for the time before and after.
fn timed<T>(inside: impl FnOnce() -> T) -> (T, Duration) {
    let before = Moment::now();
    let made = inside();
    (made, Moment::now() - before)
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Duration>>>);

impl Seen {
    fn note(&self, took: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(took);
    }

    fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A layer of the user's that notes how long the call and the poll of what is inside took.
#[derive(Clone)]
struct Timing<S> {
    inner: S,
    seen: Seen,
}

impl<R, S> Service<R> for Timing<S>
where
    S: Service<R>,
    S::Future: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (response, took) = timed(|| self.inner.call(request));
        self.seen.note(took);
        let (mut response, seen) = (Box::pin(response), self.seen.clone());
        Box::pin(poll_fn(move |cx| {
            let (polled, took) = timed(|| response.as_mut().poll(cx));
            seen.note(took);
            polled
        }))
    }
}

/// Each place where the stack leaves its moment is seen by itself: `call` and the future's `poll`.
#[tokio::test(start_paused = true)]
async fn a_layer_sees_the_time_that_the_service_takes_in_its_call_and_in_its_poll() {
    let set = PolicySet::parse("policies.yaml", "{}", Format::Yaml);
    let governance = Governance::new(set.unwrap_or_else(|error| panic!("{error}")));
    let seen = Seen::default();
    let noted = seen.clone();
    let timing = layer_fn(move |inner| Timing { inner, seen: noted.clone() });
    let service = service_fn(|call: Call| {
        if call == "Call" {
            work();
        }
        async move {
            if call == "Poll" {
                work();
            }
            Ok::<_, Rejection>(call)
        }
    });
    let client = governance.client(name).around_attempts(timing).layer(service);
    let none = Duration::ZERO;
    for (call, expected) in
        [("Call", [SECOND, none]), ("Poll", [none, SECOND]), ("Neither", [none, none])]
    {
        client.clone().oneshot(call).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(seen.take(), expected, "{call}");
    }
}
