//! Instances as tower services: workers with a queue, which may fail or be gone.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use fastrand::Rng;
use tokio::{sync::Semaphore, time::sleep};
use tower::{BoxError, Service};

use super::{MS, exponential};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Health {
    #[default]
    Well,
    /// Answers with an error, in 1 ms.
    Fails,
    /// Cannot be reached.
    Gone,
}

/// An instance; clones are handles to the same. Its work ends when the caller gives up.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    state: Rc<State>,
}

#[derive(Debug)]
struct State {
    free: Semaphore,
    mean: Duration,
    rng: Rc<RefCell<Rng>>,
    health: Cell<Health>,
    asked: Cell<u64>,
}

impl Instance {
    pub(crate) fn new(workers: usize, mean: Duration, rng: &Rc<RefCell<Rng>>) -> Self {
        let (health, asked) = Default::default();
        let free = Semaphore::new(workers);
        Self { state: Rc::new(State { free, mean, rng: Rc::clone(rng), health, asked }) }
    }

    pub(crate) fn set(&self, health: Health) {
        self.state.health.set(health);
    }

    /// How many calls it got since this was asked last.
    pub(crate) fn take_asked(&self) -> u64 {
        self.state.asked.take()
    }
}

impl<R> Service<R> for Instance {
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>>>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.state.health.get() {
            Health::Gone => Poll::Ready(Err(BoxError::from("cannot be reached"))),
            Health::Well | Health::Fails => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _request: R) -> Self::Future {
        let state = Rc::clone(&self.state);
        state.asked.set(state.asked.get() + 1);
        Box::pin(async move {
            if state.health.get() == Health::Fails {
                sleep(MS).await;
                return Err(BoxError::from("it fails"));
            }
            let _worker = state.free.acquire().await?;
            let takes = exponential(&mut state.rng.borrow_mut(), state.mean.as_secs_f64());
            sleep(takes).await;
            Ok(())
        })
    }
}
