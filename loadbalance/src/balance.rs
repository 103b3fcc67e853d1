use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use outrigger_core::{Live, Observe, Outcome, Rejection, Tried};

use crate::{
    BalanceEvent, BalancePolicy, BalanceStatus, Endpoint, EndpointInfo, HashKey, LoadReport,
    WeakBalance,
    call::Call,
    roster::Changing,
    snapshot::{Asking, Shared},
};

/// A set of endpoints, and who of them gets the next call.
///
/// Clones are handles to the same set. [`BalanceService`](crate::BalanceService) makes a tower
/// service of it; without tower, [`pick`](Self::pick) gives an endpoint and is told the outcome.
///
/// A pick takes no lock and never waits: endpoints and index live in an immutable snapshot. The
/// methods that change endpoints build the next snapshot in the caller's own thread and swap it in;
/// call them from a task of discovery, not from a call.
pub struct Balance<S> {
    pub(crate) shared: Arc<Shared<S>>,
}

impl<S> Balance<S> {
    /// A balancer without endpoints yet.
    #[must_use]
    pub fn new(policy: impl Into<Live<BalancePolicy>>) -> Self {
        Self { shared: Arc::new(Shared::new(policy.into())) }
    }

    /// Tells `observer` what this balancer does, in the place of an earlier observer. It holds for
    /// all clones.
    #[must_use]
    pub fn observe(self, observer: impl Observe<BalanceEvent> + Send + Sync + 'static) -> Self {
        self.shared.fleet.set_observer(observer);
        self
    }

    /// The settings. After replacing them, call [`refresh`](Self::refresh).
    #[must_use]
    pub fn policy(&self) -> &Live<BalancePolicy> {
        &self.shared.live
    }

    /// A handle that does not keep the balancer alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakBalance<S> {
        WeakBalance::new(&self.shared)
    }

    /// What each endpoint does at present, in the order of their keys.
    #[must_use]
    pub fn status(&self) -> BalanceStatus {
        let now = self.shared.fleet.clock().now();
        BalanceStatus::of(&self.shared, now)
    }

    /// The key of the endpoint that `key` is hashed to: whom [`pick_by`](Self::pick_by) gives while
    /// that one is healthy and within the load bound. Begins no call. `None` with a picker that
    /// does not hash, or without endpoints.
    #[must_use]
    pub fn owner_of(&self, key: HashKey) -> Option<Arc<str>> {
        self.shared.owner(key)
    }

    /// Takes what the endpoint with this key says of its load, for
    /// [`Picker::Reported`](crate::Picker::Reported). Says whether it is there.
    #[expect(clippy::must_use_candidate, reason = "a report of one that left is no mistake")]
    pub fn report(&self, key: &str, report: &LoadReport) -> bool {
        let now = self.shared.fleet.clock().now();
        self.shared.node(key).map(|node| node.report(report, now)).is_some()
    }

    /// Lets the ejection rules look at an interval that is over, and endpoints return whose time
    /// is over. Calls do this by themselves; only a balancer without calls may need it.
    pub fn sweep(&self) {
        let now = self.shared.fleet.clock().now();
        self.shared.fleet.return_due(now);
        self.shared.fleet.sweep_if_due(now);
    }
}

impl<S: Clone> Balance<S> {
    /// Puts `endpoints` in the place of all present ones. One whose key is there already takes its
    /// place as a new endpoint.
    pub fn replace(&self, endpoints: impl IntoIterator<Item = Endpoint<S>>) {
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        self.shared.change(|changing, _| {
            for key in changing.keys() {
                changing.remove(&key);
            }
            for endpoint in endpoints {
                changing.insert(endpoint);
            }
        });
    }

    /// Adds an endpoint, in the place of one with the same key.
    pub fn insert(&self, endpoint: Endpoint<S>) {
        self.shared.change(|changing, _| changing.insert(endpoint));
    }

    /// Takes an endpoint out. Calls in flight on it go on; no new one begins.
    pub fn remove(&self, key: &str) {
        self.shared.change(|changing, _| changing.remove(key));
    }

    /// Makes the endpoints those that `infos` name: endpoints that stay keep their service, their
    /// calls and their record, new ones get a service from `make`, others are taken out.
    ///
    /// `make` runs before anything is locked.
    pub fn update(&self, infos: &[EndpointInfo], mut make: impl FnMut(&EndpointInfo) -> S) {
        let present = self.infos();
        let zones: HashMap<&str, Option<&str>> =
            present.iter().map(|info| (info.key(), info.zone_name())).collect();
        let is_new = |info: &&EndpointInfo| zones.get(info.key()) != Some(&info.zone_name());
        let fresh: Vec<_> =
            infos.iter().filter(is_new).map(|info| info.clone().with_service(make(info))).collect();
        self.shared.change(|changing, _| apply(changing, infos, fresh));
    }

    /// Gives endpoints new weights; those that are not there are passed over.
    pub fn reweight<'a>(&self, weights: impl IntoIterator<Item = (&'a str, u32)>) {
        let weights: Vec<_> = weights.into_iter().collect();
        self.shared.change(|changing, _| {
            for (key, weight) in weights {
                if let Some(info) = changing.info(key) {
                    changing.keep(&info.weight(weight));
                }
            }
        });
    }

    /// Builds the index from the present settings.
    ///
    /// When settings were replaced, calls take them over by themselves, but for the picker, the
    /// local zone and the subset: a call never builds an index. Those are taken over here and at
    /// every change of the endpoints.
    pub fn refresh(&self) {
        self.shared.refresh();
    }

    /// Picks an endpoint and begins a call on it.
    ///
    /// # Errors
    ///
    /// `no_endpoint` when there is none, or none of a weight above 0; `no_hash_key` when the
    /// policy refuses calls without a key.
    pub fn pick(&self) -> Result<Picked<S>, Rejection> {
        self.pick_for(None)
    }

    /// Picks the endpoint for `key`, for a consistent hash.
    ///
    /// # Errors
    ///
    /// As [`pick`](Self::pick).
    pub fn pick_by(&self, key: HashKey) -> Result<Picked<S>, Rejection> {
        self.pick_for(Some(key))
    }

    /// Picks the endpoints for `key` one after the other, each another one, the first of them as
    /// [`pick_by`](Self::pick_by) does: the replicas of a key. Ends when all were given, and at the
    /// latest after [`Tried::CAPACITY`], where it notes them. Allocates nothing.
    pub fn replicas(&self, key: HashKey, tried: &Tried) -> impl Iterator<Item = Picked<S>> {
        (0..Tried::CAPACITY).map_while(move |_| {
            let picked = self.pick_but(Some(key), Some(tried)).ok()?;
            let id = picked.call.endpoint_id();
            let is_new = !tried.contains(id);
            tried.note(id);
            is_new.then_some(picked)
        })
    }

    fn pick_for(&self, key: Option<HashKey>) -> Result<Picked<S>, Rejection> {
        self.pick_but(key, None)
    }

    fn pick_but(
        &self,
        key: Option<HashKey>,
        tried: Option<&Tried>,
    ) -> Result<Picked<S>, Rejection> {
        let mut rng = self.shared.deal();
        let mut asking = Asking { rng: &mut rng, key, tried, unreachable: &[] };
        let (service, mut call) = self.shared.begin(&mut asking, || None)?;
        call.show();
        Ok(Picked { service, call })
    }

    fn infos(&self) -> Vec<EndpointInfo> {
        let mut infos = Vec::new();
        self.shared.for_each(|info, _| infos.push(info.clone()));
        infos
    }
}

/// Keeps who stays, removes who goes, inserts who is new.
fn apply<S>(changing: &mut Changing<'_, S>, infos: &[EndpointInfo], fresh: Vec<Endpoint<S>>) {
    let wanted: HashSet<&str> = infos.iter().map(EndpointInfo::key).collect();
    for key in changing.keys() {
        if !wanted.contains(&*key) {
            changing.remove(&key);
        }
    }
    for info in infos {
        changing.keep(info);
    }
    for endpoint in fresh {
        // Another update may have brought it meanwhile.
        if !changing.contains(endpoint.info().key()) || !changing.keep(endpoint.info()) {
            changing.insert(endpoint);
        }
    }
}

impl<S> Clone for Balance<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S> fmt::Debug for Balance<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance").field("fleet", &self.shared.fleet).finish_non_exhaustive()
    }
}

/// An endpoint that was picked, and the call on it.
///
/// Tell the outcome with [`record`](Self::record); dropping it instead counts as a cancelled call.
#[derive(Debug)]
pub struct Picked<S> {
    service: S,
    call: Call,
}

impl<S> Picked<S> {
    /// The endpoint's key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.call.node().map_or("", |node| node.key())
    }

    /// The endpoint's service.
    pub const fn service(&mut self) -> &mut S {
        &mut self.service
    }

    /// The call is over.
    pub fn record(self, outcome: Outcome) {
        self.call.end(outcome);
    }
}
