//! What the tests of the limits share.

#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "each test file uses its share, and a test says by panicking what went wrong"
)]

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use outrigger_core::{AttemptContext, CarryContext, Criticality, Observe, Rejection};
use tokio::sync::oneshot;
use tower::{BoxError, Service};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A request that says what it is, and carries its context.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) name: u32,
    pub(crate) cost: u32,
    pub(crate) context: AttemptContext,
}

impl Request {
    pub(crate) fn named(name: u32) -> Self {
        Self { name, cost: 1, context: AttemptContext::default() }
    }

    pub(crate) fn until(mut self, deadline: tokio::time::Instant) -> Self {
        self.context.deadline = Some(deadline);
        self
    }

    pub(crate) fn class(mut self, criticality: Criticality) -> Self {
        self.context.criticality = Some(criticality);
        self
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct InRequest;

impl CarryContext<Request> for InRequest {
    fn context<'a>(&self, request: &'a Request) -> Option<&'a AttemptContext> {
        Some(&request.context)
    }

    fn set_context(&self, request: &mut Request, context: AttemptContext) {
        request.context = context;
    }
}

/// A call, and how to end it.
type Started = (Request, oneshot::Sender<()>);

/// An inner service whose calls end when the test says so. Ready only for the value polled ready.
#[derive(Default)]
pub(crate) struct Held {
    started: Arc<Mutex<Vec<Started>>>,
    ready: bool,
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self { started: Arc::clone(&self.started), ready: false }
    }
}

impl Held {
    /// The names of the calls that run, in the order in which they began.
    pub(crate) fn running(&self) -> Vec<u32> {
        self.started.lock().unwrap().iter().map(|(request, _)| request.name).collect()
    }

    /// Answers the call that began first.
    pub(crate) fn answer(&self) {
        let (_, sender) = self.started.lock().unwrap().remove(0);
        let _ = sender.send(());
    }

    pub(crate) fn first_context(&self) -> AttemptContext {
        self.started.lock().unwrap()[0].0.context.clone()
    }
}

impl Service<Request> for Held {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been ready");
        let (sender, receiver) = oneshot::channel();
        let name = request.name;
        self.started.lock().unwrap().push((request, sender));
        Box::pin(async move {
            receiver.await?;
            Ok(name)
        })
    }
}

#[track_caller]
pub(crate) fn reason(error: &BoxError) -> &'static str {
    rejection(error).reason()
}

#[track_caller]
pub(crate) fn rejection(error: &BoxError) -> &Rejection {
    error.downcast_ref().expect("refused by the limit")
}

/// Remembers every event.
#[derive(Debug)]
pub(crate) struct Log<E>(Arc<Mutex<Vec<E>>>);

impl<E> Default for Log<E> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<E> Clone for Log<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Copy> Log<E> {
    pub(crate) fn all(&self) -> Vec<E> {
        self.0.lock().unwrap().clone()
    }
}

impl<E: Copy> Observe<E> for Log<E> {
    fn observe(&self, _key: &str, event: &E) {
        self.0.lock().unwrap().push(*event);
    }
}
