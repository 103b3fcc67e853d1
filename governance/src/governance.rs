use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use outrigger_core::{Enforcement, Keyed, Live, Method, MethodRef};
use outrigger_loadbalance::BalancePolicy;
use outrigger_ratelimit::{AdaptiveLimit, ConcurrencyLimit, ConnectionLimit, RateLimit};
use outrigger_retry::RetryBudget;

use crate::{
    InvalidPolicies, LoadError, MethodState, ObserveGovernance, PolicyEvent, PolicyKind, PolicySet,
    at_hand::{self, Id, Share},
    current::{Current, Switch},
    part::{Part, replace_changed},
    shared::{ServerState, ServiceState, connections_of},
    state::{Making, OTHER, Off, Slot, named},
};

/// The policies in force, and the running state of every method.
///
/// Clones are handles to the same. All stacks that are made from one share the state of a method:
/// its circuit, its limits, its latencies, and its service's retry budget. At most 10 000 methods
/// and 20 000 services are known at a time; then what is idle gives way (see [`Keyed`]).
///
/// A thread keeps what it called last at hand, up to 16 methods of all governances, and with it clones
/// of their observers: when the last handle is dropped, the observer lives on until those threads call
/// other methods or end.
///
/// ```
/// use outrigger::{Format, Governance, PolicyKind, PolicySet};
/// use outrigger::core::{Enforcement, MethodRef};
///
/// let text = "defaults: {timeout: 1s, circuit_breaker: {}}";
/// let governance = Governance::new(PolicySet::parse("policies.yaml", text, Format::Yaml)?);
///
/// // Another set, while calls are running. A wrong one leaves the one before it in force.
/// let text = "defaults: {timeout: 2s, circuit_breaker: {error_rate: {rate: 0.2}}}";
/// governance.replace(PolicySet::parse("policies.yaml", text, Format::Yaml)?);
///
/// // A switch by hand, over what any set says, until it is taken back.
/// governance.switch(None, Some(PolicyKind::CircuitBreaker), Some(Enforcement::Shadow));
/// let get = governance.method(MethodRef { service: "shop.Cart", method: "Get" });
/// assert_eq!(get.policy().circuit_breaker().unwrap().enforcement(), Enforcement::Shadow);
/// # Ok::<_, outrigger::InvalidPolicies>(())
/// ```
pub struct Governance<O = ()> {
    pub(crate) shared: Arc<Shared<O>>,
}

/// A [`Governance`] that it does not keep alive.
#[cfg(feature = "diagnosis")]
pub(crate) struct WeakGovernance<O>(std::sync::Weak<Shared<O>>);

#[cfg(feature = "diagnosis")]
impl<O> WeakGovernance<O> {
    pub(crate) fn upgrade(&self) -> Option<Governance<O>> {
        self.0.upgrade().map(|shared| Governance { shared })
    }
}

pub(crate) struct Shared<O> {
    pub(crate) id: Id,
    current: Live<Current>,
    methods: Keyed<Method, Slot<O>>,
    services: Keyed<Box<str>, ServiceState>,
    /// One change of the policies at a time.
    changing: Mutex<()>,
    off: Arc<Off<O>>,
    server: Live<ServerState<O>>,
    connections: ConnectionLimit<O>,
    observer: O,
}

const MOST_METHODS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// Each method holds what its service shares: so there are always services that no method holds, to
/// give way to others.
const MOST_SERVICES: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

impl Governance {
    /// Governs by `set`, and tells nobody.
    #[must_use]
    pub fn new(set: PolicySet) -> Self {
        Self::with_observer(set, ())
    }
}

impl<O: ObserveGovernance> Governance<O> {
    /// Governs by `set`, and tells `observer` whatever happens; its clones tell the same.
    #[must_use]
    pub fn with_observer(set: PolicySet, observer: O) -> Self {
        let off = Arc::new(Off::new(&observer));
        let server = ServerState::follow(None, &set, &observer);
        let connections =
            ConnectionLimit::from_policy(connections_of(&set)).observe(observer.clone());
        let current = Current { set: Arc::new(set), switches: Vec::new() };
        let shared = Shared {
            id: Id::next(),
            current: Live::new(current),
            methods: Keyed::new(MOST_METHODS),
            services: Keyed::new(MOST_SERVICES),
            changing: Mutex::new(()),
            off,
            server: Live::new(server),
            connections,
            observer,
        };
        Self { shared: Arc::new(shared) }
    }

    /// What governs a call of `method` that begins now, to keep.
    ///
    /// Each thread has the last methods that it looked up at hand: to look one up again mostly takes
    /// no look into the table of all, but for the first after a change of the policies.
    #[must_use]
    pub fn method(&self, method: MethodRef<'_>) -> Arc<MethodState<O>> {
        self.resolve(Some(method)).owned()
    }

    /// Shows `look` what governs a call of `method` that begins now. Costs less than
    /// [`method`](Self::method), since nothing is kept; it is what the stacks do.
    ///
    /// ```
    /// use outrigger::{Governance, PolicySet, core::MethodRef};
    ///
    /// let governance = Governance::new(PolicySet::default());
    /// let get = MethodRef { service: "shop.Cart", method: "Get" };
    /// let permit = governance.with_method(get, |state| state.circuit_breaker().try_acquire())?;
    /// # drop(permit);
    /// # Ok::<_, outrigger::core::Rejection>(())
    /// ```
    pub fn with_method<R>(
        &self,
        method: MethodRef<'_>,
        look: impl FnOnce(&MethodState<O>) -> R,
    ) -> R {
        look(&self.resolve(Some(method)))
    }

    /// What governs a call of `method`, or of none.
    #[inline]
    pub(crate) fn resolve(&self, method: Option<MethodRef<'_>>) -> Share<O> {
        // As two slices, which travel in registers.
        let MethodRef { service, method } = method.unwrap_or(OTHER);
        Share::new(self.find(service, method))
    }

    /// What the thread has at hand, if that governs the method under the policies as they are.
    fn find(&self, service: &str, method: &str) -> Arc<MethodState<O>> {
        let name = MethodRef { service, method };
        let id = self.shared.id;
        let version = self.shared.current.version();
        match id.place_of(name).take::<MethodState<O>>() {
            Some(state) if state.is_in_force(id, version) && state.method == name => {
                state.mark_used();
                state
            }
            _ => self.look_up(name),
        }
    }

    /// One look-up, and one load to see whether the policies are those it was made for.
    #[inline(never)]
    fn look_up(&self, name: MethodRef<'_>) -> Arc<MethodState<O>> {
        let make = || {
            let method = name.to_owned();
            let state = self.making(&method).state(&method, None);
            (method, Slot::new(state))
        };
        self.shared.methods.with(&name, make, |slot| {
            let version = self.shared.current.version();
            let state = slot.state.get();
            if state.version == version {
                return state;
            }
            // A call waits for nobody: while another is at it, the policies before count.
            drop(self.bring_up_to_date(slot, false));
            slot.state.get()
        })
    }

    fn making(&self, method: &Method) -> Making<'_, O> {
        // The version first: what is read after it is of that version or a newer one.
        let version = self.shared.current.version();
        let current = self.shared.current.load();
        let policy = Arc::clone(current.set.method_shared(named(method)));
        let policy = current.switched(method, policy);
        let budget = self.with_service(method.service(), |service| service.budget.clone());
        let Shared { id, off, observer, .. } = &*self.shared;
        Making { governance: *id, policy, version, budget, off, observer }
    }

    fn bring_up_to_date(&self, slot: &Slot<O>, waits: bool) -> Option<Arc<MethodState<O>>> {
        slot.follow(waits, |old| {
            let making = self.making(&old.method);
            let is_newer = making.version != old.version;
            is_newer.then(|| making.state(&old.method, Some(old)))
        })
    }

    fn with_service<R>(&self, name: &str, use_it: impl FnOnce(&ServiceState) -> R) -> R {
        let make = || {
            let service = ServiceState::new(name, &self.set());
            (name.into(), service)
        };
        let version = self.version();
        let used = self.shared.services.with(name, make, use_it);
        if self.version() != version {
            // Perhaps made from the set before, after the change had looked at all there were.
            let set = self.set();
            self.shared.services.peek(name, |service| service.follow(name, &set));
        }
        used
    }

    /// The retry budget that all methods of `service` draw on.
    #[must_use]
    pub fn retry_budget(&self, service: &str) -> RetryBudget {
        self.with_service(service, |service| service.budget.clone())
    }

    /// How the endpoints of `service` are picked, for a `Balance` to follow.
    #[must_use]
    pub fn balance(&self, service: &str) -> Live<BalancePolicy> {
        self.with_service(service, |service| service.balance.clone())
    }

    /// The limit on the connections of a server (`server.connection_limit`), shared by all that
    /// listen, as the sets state it from time to time. Without one all connections are let in, and
    /// counted. One beyond the limit is closed at once, or waits where the set says so.
    ///
    /// ```
    /// use outrigger::{Format, Governance, PolicySet};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let set = PolicySet::parse("p.yaml", "server: {connection_limit: 1000}", Format::Yaml)?;
    /// let governance = Governance::new(set);
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// // For tonic: `serve_with_incoming(governance.connections().incoming(stream))`.
    /// let listener = governance.connections().listener(listener);
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn connections(&self) -> ConnectionLimit<O> {
        self.shared.connections.clone()
    }

    pub(crate) fn server_live(&self) -> &Live<ServerState<O>> {
        &self.shared.server
    }

    pub(crate) fn observer(&self) -> &O {
        &self.shared.observer
    }

    /// The set in force.
    #[must_use]
    pub fn set(&self) -> Arc<PolicySet> {
        Arc::clone(&self.shared.current.load().set)
    }

    /// How many sets and switches were in force before.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.current.version()
    }

    #[cfg(feature = "diagnosis")]
    pub(crate) fn downgrade(&self) -> WeakGovernance<O> {
        WeakGovernance(Arc::downgrade(&self.shared))
    }

    /// Every method that was called, with what governs it, in no order.
    #[must_use]
    pub fn methods(&self) -> Vec<Arc<MethodState<O>>> {
        let mut all = Vec::with_capacity(self.shared.methods.len());
        self.shared.methods.for_each(|_, slot| all.push(slot.state.get()));
        all
    }

    /// Puts `set` in force. Calls in flight end as they began; what did not change keeps its
    /// running state.
    pub fn replace(&self, set: PolicySet) {
        self.replace_from("", set);
    }

    fn replace_from(&self, source: &str, set: PolicySet) {
        let version = self.change(|current| Current { set: Arc::new(set), ..current.clone() });
        self.shared.observer.observe(source, &PolicyEvent::Replaced { version });
    }

    /// Reads a policy file and puts it in force.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is invalid: then the set before it stays in force, and the
    /// observer is told the reason.
    pub fn load(&self, path: impl AsRef<std::path::Path>) -> Result<(), LoadError> {
        let path = path.as_ref();
        let loaded = PolicySet::load(path);
        self.put_in_force(&path.display().to_string(), loaded)
    }

    /// Puts what was loaded from `source` in force, or tells why it was refused.
    pub(crate) fn put_in_force(
        &self,
        source: &str,
        loaded: Result<PolicySet, LoadError>,
    ) -> Result<(), LoadError> {
        match loaded {
            Ok(set) => {
                self.replace_from(source, set);
                Ok(())
            }
            Err(error) => {
                self.refuse(source, &error.to_string());
                Err(error)
            }
        }
    }

    fn refuse(&self, source: &str, reason: &str) {
        let event = PolicyEvent::Refused { reason: reason.into() };
        self.shared.observer.observe(source, &event);
    }

    /// Parses a text as [`PolicySet::parse`] does, and puts it in force.
    ///
    /// # Errors
    ///
    /// When it is invalid: then the set before it stays in force, and the observer is told.
    pub fn replace_text(
        &self,
        name: &str,
        text: &str,
        format: crate::Format,
    ) -> Result<(), InvalidPolicies> {
        match PolicySet::parse(name, text, format) {
            Ok(set) => {
                self.replace_from(name, set);
                Ok(())
            }
            Err(error) => {
                self.refuse(name, &error.to_string());
                Err(error)
            }
        }
    }

    /// Switches `policy` of `method` by hand, over what any set says; `None` takes a switch back.
    ///
    /// No method stands for all of them, no policy for all of a method's. The last switch that fits
    /// counts.
    pub fn switch(
        &self,
        method: Option<Method>,
        policy: Option<PolicyKind>,
        enforcement: Option<Enforcement>,
    ) {
        let version = self.change(|current| {
            let mut current = current.without(method.as_ref(), policy);
            if let Some(enforcement) = enforcement {
                current.switches.push(Switch { method, policy, enforcement });
            }
            current
        });
        self.shared.observer.observe("", &PolicyEvent::Switched { version });
    }

    /// Switches `policy` of `method` by hand; what would be in force anyway needs no switch, so
    /// that later sets count again. One step: in between, no call goes by another policy.
    #[cfg(feature = "diagnosis")]
    pub(crate) fn switch_by_hand(
        &self,
        method: &Method,
        policy: PolicyKind,
        enforcement: Enforcement,
    ) {
        let version = self.change(|current| {
            let mut current = current.without(Some(method), Some(policy));
            let stated = Arc::clone(current.set.method_shared(named(method)));
            let otherwise = current.switched(method, stated).enforcement_of(policy);
            if otherwise != Some(enforcement) {
                let (method, policy) = (Some(method.clone()), Some(policy));
                current.switches.push(Switch { method, policy, enforcement });
            }
            current
        });
        self.shared.observer.observe("", &PolicyEvent::Switched { version });
    }

    fn change(&self, change: impl FnOnce(&Current) -> Current) -> u64 {
        let one_at_a_time = self.shared.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // What was before is kept until no lock is held: with it go observers of the user's.
        let before = self.shared.current.update(change);
        let version = self.shared.current.version();
        let set = self.set();
        let follow = |old: &_| ServerState::follow(Some(old), &set, &self.shared.observer);
        let server_before = self.shared.server.update(follow);
        self.shared.services.for_each(|name, service| {
            service.follow(name, &set);
        });
        let connections = &self.shared.connections;
        replace_changed(connections.policy(), connections_of(&set).places());
        connections.refresh();
        // At once, not with the next call.
        let server = self.shared.server.load();
        refresh(&server.concurrency, &server.adaptive, &server.rate);
        let mut methods_before = Vec::with_capacity(self.shared.methods.len());
        self.shared.methods.for_each(|_, slot| {
            methods_before.extend(self.bring_up_to_date(slot, true));
            let state = slot.state.load();
            refresh(&state.concurrency, &state.adaptive, &state.rate);
        });
        drop((server, one_at_a_time));
        drop((before, server_before, methods_before));
        at_hand::let_go();
        version
    }
}

/// So that who waits for a place or a token hears of a wider limit.
fn refresh<O: ObserveGovernance>(
    concurrency: &Part<ConcurrencyLimit<O>>,
    adaptive: &Part<AdaptiveLimit<O>>,
    rate: &Part<RateLimit<O>>,
) {
    concurrency.handle().into_iter().for_each(ConcurrencyLimit::refresh);
    adaptive.handle().into_iter().for_each(AdaptiveLimit::refresh);
    rate.handle().into_iter().for_each(RateLimit::refresh);
}

impl<O> Drop for Shared<O> {
    fn drop(&mut self) {
        self.methods.for_each(|_, slot| slot.retire());
        at_hand::let_go();
    }
}

impl<O> Clone for Governance<O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<O> std::fmt::Debug for Governance<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Governance")
            .field("version", &self.shared.current.version())
            .field("methods", &self.shared.methods.len())
            .finish_non_exhaustive()
    }
}
