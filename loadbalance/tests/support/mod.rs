//! Endpoints whose readiness and answers a test holds in its hands.
#![expect(clippy::unwrap_used, reason = "a test's own figures and helpers")]

use std::{
    collections::HashMap,
    future::{Future, pending, ready},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use outrigger_core::Rejection;
use outrigger_loadbalance::{Balance, BalanceEvent, BalancePolicy, BalancePolicyBuilder, Endpoint};
use tower::{BoxError, Service};

/// What an endpoint does; changed while the test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    Answer,
    Fail,
    Hang,
    /// Its readiness fails.
    RefuseConnection,
    /// It never becomes ready.
    NeverReady,
    PanicInCall,
}

/// A service that answers with its own name, and insists on being ready before each call.
#[derive(Debug)]
pub(crate) struct Host {
    name: &'static str,
    world: World,
    is_ready: bool,
}

/// All that happened to the hosts of a test.
#[derive(Clone, Debug, Default)]
pub(crate) struct World(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    does: HashMap<&'static str, Does>,
    calls: HashMap<&'static str, u64>,
    ready_polls: HashMap<&'static str, u64>,
}

impl World {
    pub(crate) fn host(&self, name: &'static str) -> Host {
        Host { name, world: self.clone(), is_ready: false }
    }

    pub(crate) fn endpoint(&self, name: &'static str) -> Endpoint<Host> {
        Endpoint::new(name, self.host(name))
    }

    pub(crate) fn balance(
        &self,
        policy: BalancePolicyBuilder,
        names: &[&'static str],
    ) -> Balance<Host> {
        let balance = Balance::new(policy.seed(7).build().unwrap());
        balance.replace(names.iter().map(|name| self.endpoint(name)));
        balance
    }

    pub(crate) fn set(&self, name: &'static str, does: Does) {
        self.0.lock().unwrap().does.insert(name, does);
    }

    pub(crate) fn calls(&self, name: &str) -> u64 {
        self.0.lock().unwrap().calls.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn all_calls(&self) -> u64 {
        self.0.lock().unwrap().calls.values().sum()
    }

    pub(crate) fn ready_polls(&self, name: &str) -> u64 {
        self.0.lock().unwrap().ready_polls.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn forget(&self) {
        self.0.lock().unwrap().calls.clear();
    }

    fn does(&self, name: &'static str) -> Does {
        self.0.lock().unwrap().does.get(name).copied().unwrap_or(Does::Answer)
    }
}

/// A clone is not ready: readiness belongs to one value.
impl Clone for Host {
    fn clone(&self) -> Self {
        self.world.host(self.name)
    }
}

impl<Request> Service<Request> for Host {
    type Response = &'static str;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<&'static str, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        *self.world.0.lock().unwrap().ready_polls.entry(self.name).or_default() += 1;
        match self.world.does(self.name) {
            Does::RefuseConnection => Poll::Ready(Err("connection refused".into())),
            Does::NeverReady => Poll::Pending,
            _ => {
                self.is_ready = true;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn call(&mut self, _request: Request) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "{} was called unready", self.name);
        *self.world.0.lock().unwrap().calls.entry(self.name).or_default() += 1;
        match self.world.does(self.name) {
            Does::Fail => Box::pin(ready(Err("internal error".into()))),
            Does::Hang => Box::pin(pending()),
            Does::PanicInCall => panic!("the host panics"),
            _ => Box::pin(ready(Ok(self.name))),
        }
    }
}

/// Collects what a balancer tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(String, BalanceEvent)>>>);

impl Log {
    pub(crate) fn attach<S>(&self, balance: Balance<S>) -> Balance<S> {
        let log = self.clone();
        balance.observe(move |key: &str, event: &BalanceEvent| {
            log.0.lock().unwrap().push((key.to_owned(), *event));
        })
    }

    pub(crate) fn take(&self) -> Vec<(String, BalanceEvent)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(crate) fn count(&self, wanted: impl Fn(&BalanceEvent) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|(_, event)| wanted(event)).count()
    }
}

pub(crate) fn policy() -> BalancePolicyBuilder {
    BalancePolicy::builder()
}

/// The reason of a refusal by the balancer.
pub(crate) fn reason(error: &BoxError) -> &'static str {
    Rejection::find(&**error).expect("a refusal").reason()
}
