use std::{collections::HashMap, fmt, future::Future, pin::Pin, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::{Resolution, ResolveError, Resolver};
use crate::{Balance, BalanceEvent, EndpointInfo, RefusedUpdate};

/// Keeps the endpoints of a [`Balance`] as a [`Resolver`] says they are.
///
/// An answer that is empty, fails or comes too late changes nothing: the endpoints stay as they
/// are, and an event says so. [`keep_stale_for`](Self::keep_stale_for) sets an end to that.
///
/// ```
/// use outrigger_loadbalance::{Balance, BalancePolicy, Discovery, EndpointInfo, StaticResolver};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let balance = Balance::new(BalancePolicy::default());
/// let resolver = StaticResolver::new(["a:80", "b:80"].map(EndpointInfo::new));
/// let mut discovery =
///     Discovery::new(resolver, balance.clone(), |info: &EndpointInfo| info.key().to_owned());
/// discovery.refresh().await.unwrap();
/// assert_eq!(balance.status().endpoints.len(), 2);
/// // Then in the background, as long as the program wants it:
/// tokio::spawn(discovery.run());
/// # }
/// ```
pub struct Discovery<R, S, M> {
    resolver: R,
    balance: Balance<S>,
    make: M,
    every: Duration,
    at_least: Duration,
    timeout: Duration,
    keep_stale_for: Option<Duration>,
    known: Vec<EndpointInfo>,
    confirmed: Option<Instant>,
    policy_version: u64,
    warm_up: Option<WarmUp<S>>,
}

/// Makes a new endpoint's service ready.
type WarmUp<S> = Box<dyn Fn(S) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl<R, S, M> Discovery<R, S, M>
where
    R: Resolver,
    S: Clone,
    M: FnMut(&EndpointInfo) -> S,
{
    /// Asks `resolver`, and gives each new endpoint the service that `make` makes for it.
    #[must_use]
    pub fn new(resolver: R, balance: Balance<S>, make: M) -> Self {
        let policy_version = balance.policy().version();
        Self {
            resolver,
            balance,
            make,
            every: Duration::from_secs(5),
            at_least: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            keep_stale_for: None,
            known: Vec::new(),
            confirmed: None,
            policy_version,
            warm_up: None,
        }
    }

    /// Connects new endpoints before they are picked: `warm_up` gets a clone of each new service,
    /// such as `|endpoint| async move { drop(endpoint.warm_up().await) }` for a
    /// [`Lazy`](crate::Lazy) one. All are warmed up at the same time, for as long as an answer may
    /// take; then they join, connected or not.
    #[must_use]
    pub fn warm_up<F>(mut self, warm_up: impl Fn(S) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Boxed: once for each new endpoint, never for a call.
        self.warm_up = Some(Box::new(move |service| Box::pin(warm_up(service))));
        self
    }

    /// How often to ask when an answer does not say how long it holds. Default: 5 s (Kitex).
    #[must_use]
    pub const fn every(mut self, time: Duration) -> Self {
        self.every = time;
        self
    }

    /// How long to wait at least before asking again, whatever an answer says, and after a
    /// failure. Default: 1 s.
    #[must_use]
    pub const fn at_least(mut self, time: Duration) -> Self {
        self.at_least = time;
        self
    }

    /// How long an answer may take. Default: 5 s.
    #[must_use]
    pub const fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// How long endpoints are kept that no answer confirms any more; then they are taken out.
    /// Default: `None`, for ever.
    #[must_use]
    pub fn keep_stale_for(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.keep_stale_for = time.into();
        self
    }

    /// Asks once, and applies the answer. Says how long it holds.
    ///
    /// # Errors
    ///
    /// When the answer is empty, failed or came too late; the endpoints stay as they were.
    pub async fn refresh(&mut self) -> Result<Duration, ResolveError> {
        let answer = match timeout(self.timeout, self.resolver.resolve()).await {
            Ok(answer) => answer,
            Err(too_late) => Err(too_late.into()),
        };
        match answer {
            Ok(resolution) if resolution.endpoints.is_empty() => {
                self.refuse(RefusedUpdate::Empty);
                Err("the answer names no endpoint".into())
            }
            Ok(resolution) => Ok(self.apply(resolution).await),
            Err(error) => {
                self.refuse(RefusedUpdate::Failed);
                Err(error)
            }
        }
    }

    /// Asks again and again; never ends. Run it as a task. It also takes over a replaced policy,
    /// and lets ejected endpoints return while there are no calls.
    pub async fn run(mut self) {
        loop {
            let wait = self.refresh().await.unwrap_or(self.at_least).max(self.at_least);
            self.take_over_policy();
            self.balance.sweep();
            sleep(wait).await;
        }
    }

    async fn apply(&mut self, resolution: Resolution) -> Duration {
        let Resolution { endpoints, valid_for } = resolution;
        self.confirmed = Some(Instant::now());
        let difference = self.resolver.diff(&self.known, &endpoints);
        if let Some(difference) = difference {
            let mut warm = self.warmed_up(&difference.added).await;
            let make = &mut self.make;
            self.balance
                .update(&endpoints, |info| warm.remove(info.key()).unwrap_or_else(|| make(info)));
            self.known = endpoints;
        }
        valid_for.unwrap_or(self.every)
    }

    /// Services for the endpoints that are new, connected if that goes quickly.
    async fn warmed_up(&mut self, added: &[EndpointInfo]) -> HashMap<String, S> {
        let Some(warm_up) = &self.warm_up else { return HashMap::new() };
        let services: HashMap<String, S> =
            added.iter().map(|info| (info.key().to_owned(), (self.make)(info))).collect();
        let all = services.values().map(|service| warm_up(service.clone()));
        let _late_ones_join_too = timeout(self.timeout, join_all(all)).await;
        services
    }

    fn refuse(&mut self, cause: RefusedUpdate) {
        let event = BalanceEvent::UpdateRefused { cause };
        self.balance.shared.fleet.tell_of(self.resolver.target(), &event);
        let stale = self.confirmed.map(|confirmed| confirmed.elapsed());
        if stale.zip(self.keep_stale_for).is_some_and(|(stale, kept)| stale >= kept) {
            self.known.clear();
            self.confirmed = None;
            self.balance.replace([]);
        }
    }

    fn take_over_policy(&mut self) {
        let version = self.balance.policy().version();
        if version != self.policy_version {
            self.policy_version = version;
            self.balance.refresh();
        }
    }
}

impl<R: Resolver, S, M> fmt::Debug for Discovery<R, S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery")
            .field("target", &self.resolver.target())
            .field("balance", &self.balance)
            .finish_non_exhaustive()
    }
}
