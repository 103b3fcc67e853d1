use std::{
    cell::Cell,
    collections::HashMap,
    fmt,
    hash::Hash,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use equivalent::Equivalent;
use outrigger_core::{InvalidPolicy, Keyed, Live, Observe, Rejection};

use crate::{
    CircuitBreaker, CircuitBreakerEvent, CircuitBreakerPolicy, CircuitBreakerSnapshot, Permit,
    WeakCircuitBreakerPanel,
};

/// A breaker for each key: a method, a callee, an endpoint, a tenant.
///
/// Breakers are made on first use. Their number is capped; where a new key needs room, closed
/// breakers that were not used lately give way (see [`Keyed`]). Clones share the breakers.
///
/// ```
/// use outrigger_circuitbreak::{CircuitBreakerPanel, CircuitBreakerPolicy, State};
///
/// let panel = CircuitBreakerPanel::<&str>::new(CircuitBreakerPolicy::default());
/// panel.breaker(&"orders").force_open();
///
/// assert!(panel.try_acquire(&"orders").is_err());
/// assert!(panel.try_acquire(&"stock").is_ok());
/// let open = panel.list().into_iter().find(|(_, breaker)| breaker.state != State::Closed);
/// assert_eq!(open.unwrap().0, "orders");
/// ```
pub struct CircuitBreakerPanel<K, O = ()> {
    shared: Arc<Shared<K, O>>,
}

pub(crate) struct Shared<K, O> {
    breakers: Keyed<K, CircuitBreaker<O>>,
    policy: Live<CircuitBreakerPolicy>,
    /// The keys with a policy of their own, which outlives their breakers.
    own_policies: Mutex<HashMap<K, Live<CircuitBreakerPolicy>>>,
    observer: Arc<O>,
    prefix: Option<String>,
}

impl<K: Hash + Eq> CircuitBreakerPanel<K> {
    /// Breakers with this policy, or with one that is shared and replaced elsewhere; at most
    /// 10 000.
    #[must_use]
    pub fn new(policy: impl Into<Live<CircuitBreakerPolicy>>) -> Self {
        Self::builder(policy).build()
    }

    /// Starts a panel with a cap, an observer or a prefix.
    #[must_use]
    pub fn builder(policy: impl Into<Live<CircuitBreakerPolicy>>) -> CircuitBreakerPanelBuilder {
        CircuitBreakerPanelBuilder {
            policy: policy.into(),
            capacity: DEFAULT_CAPACITY,
            observer: Arc::new(()),
            prefix: None,
        }
    }
}

const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Makes a [`CircuitBreakerPanel`].
#[derive(Clone, Debug)]
pub struct CircuitBreakerPanelBuilder<O = ()> {
    policy: Live<CircuitBreakerPolicy>,
    capacity: NonZeroUsize,
    observer: Arc<O>,
    prefix: Option<String>,
}

impl<O> CircuitBreakerPanelBuilder<O> {
    /// How many keys have a breaker at most. Default: 10 000.
    #[must_use]
    pub const fn capacity(mut self, keys: NonZeroUsize) -> Self {
        self.capacity = keys;
        self
    }

    /// Tells `observer` what the breakers do, each with its name. Default: nobody.
    #[must_use]
    pub fn observe<P>(self, observer: P) -> CircuitBreakerPanelBuilder<P>
    where
        P: Observe<CircuitBreakerEvent>,
    {
        let Self { policy, capacity, prefix, .. } = self;
        CircuitBreakerPanelBuilder { policy, capacity, observer: Arc::new(observer), prefix }
    }

    /// Puts `prefix/` before the key in a breaker's name: with the calling service as prefix and
    /// methods as keys, names are Kitex's `from/to/method`. Default: the key alone.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Makes the panel, with no breaker yet.
    #[must_use]
    pub fn build<K: Hash + Eq>(self) -> CircuitBreakerPanel<K, O> {
        self.build_with(HashMap::new())
    }

    fn build_with<K: Hash + Eq>(
        self,
        own_policies: HashMap<K, Live<CircuitBreakerPolicy>>,
    ) -> CircuitBreakerPanel<K, O> {
        let Self { policy, capacity, observer, prefix } = self;
        let breakers = Keyed::new(capacity);
        let own_policies = Mutex::new(own_policies);
        let shared = Shared { breakers, policy, own_policies, observer, prefix };
        CircuitBreakerPanel { shared: Arc::new(shared) }
    }
}

impl<K, O> CircuitBreakerPanel<K, O>
where
    K: Hash + Eq + Clone + fmt::Display,
    O: Observe<CircuitBreakerEvent>,
{
    /// Asks the breaker of `key` whether a call may pass. See [`CircuitBreaker::try_acquire`].
    ///
    /// # Errors
    ///
    /// The refusal of that breaker.
    pub fn try_acquire(&self, key: &K) -> Result<Permit<O>, Rejection> {
        self.with_breaker(key, || key.clone(), CircuitBreaker::try_acquire)
    }

    /// The breaker of `key`, made if it is new.
    #[must_use]
    pub fn breaker(&self, key: &K) -> CircuitBreaker<O> {
        self.with_breaker(key, || key.clone(), CircuitBreaker::clone)
    }

    /// Shows `use_it` the breaker of a key in borrowed form; `to_key` is asked for a new one only.
    pub(crate) fn with_breaker<R>(
        &self,
        key: &(impl Equivalent<K> + Hash),
        to_key: impl FnOnce() -> K,
        use_it: impl FnOnce(&CircuitBreaker<O>) -> R,
    ) -> R {
        let is_new = Cell::new(false);
        let make = || {
            is_new.set(true);
            let key = to_key();
            let breaker = self.shared.make(&key);
            (key, breaker)
        };
        self.shared.breakers.with(key, make, |breaker| {
            // After the breaker can be found: so that either this or `set_policy` sees the other.
            if is_new.get() {
                self.shared.follow_own_policy(key, breaker);
            }
            use_it(breaker)
        })
    }

    /// Gives `key` a policy of its own, now and whenever its breaker is made again. Its state and
    /// counts stay as when any policy is replaced.
    ///
    /// # Errors
    ///
    /// When as many keys have one already as the panel may hold.
    pub fn set_policy(&self, key: &K, policy: CircuitBreakerPolicy) -> Result<(), InvalidPolicy> {
        let mut own_policies = self.shared.own_policies();
        if let Some(own) = own_policies.get(key) {
            own.replace(policy);
            return Ok(());
        }
        let most = self.shared.breakers.capacity().get();
        if own_policies.len() >= most {
            let expected = "within the capacity of the panel";
            return Err(InvalidPolicy::new("own_policies", own_policies.len() + 1, expected));
        }
        own_policies.insert(key.clone(), Live::new(policy));
        drop(own_policies);
        self.shared.breakers.peek(key, |breaker| self.shared.follow_own_policy(key, breaker));
        Ok(())
    }
}

impl<K: Hash + Eq, O> CircuitBreakerPanel<K, O> {
    /// The breaker of `key`, if it has one. Does not count as a use.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<CircuitBreaker<O>>
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        self.shared.breakers.peek(key, CircuitBreaker::clone)
    }

    /// Forgets the breaker of `key`, for example when its endpoint is gone. Calls under way finish
    /// and count for nothing.
    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        self.shared.breakers.remove(key)
    }

    /// Every key with its breaker as it stands now, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<(K, CircuitBreakerSnapshot)>
    where
        K: Clone,
    {
        let mut all = Vec::with_capacity(self.len());
        self.shared.breakers.for_each(|key, breaker| all.push((key.clone(), breaker.snapshot())));
        all
    }

    /// How many keys have a breaker.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.breakers.len()
    }

    /// Whether no key has a breaker yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.breakers.is_empty()
    }

    /// The policy of all keys that have none of their own, to read or to replace.
    #[must_use]
    pub fn policy(&self) -> &Live<CircuitBreakerPolicy> {
        &self.shared.policy
    }

    /// A handle that does not keep the panel alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakCircuitBreakerPanel<K, O> {
        WeakCircuitBreakerPanel::new(&self.shared)
    }

    pub(crate) fn to_builder(&self) -> CircuitBreakerPanelBuilder<O> {
        let Shared { breakers, policy, observer, prefix, .. } = &*self.shared;
        CircuitBreakerPanelBuilder {
            policy: policy.clone(),
            capacity: breakers.capacity(),
            observer: Arc::clone(observer),
            prefix: prefix.clone(),
        }
    }

    /// A panel like this one, with its policy and observer but breakers of its own.
    #[must_use]
    pub fn separate(&self) -> Self
    where
        K: Clone,
    {
        let own_policies = self.shared.own_policies().clone();
        self.to_builder().build_with(own_policies)
    }
}

impl<K: Hash + Eq, O> Shared<K, O> {
    fn follow_own_policy(&self, key: &impl Equivalent<K>, breaker: &CircuitBreaker<O>) {
        let own_policies = self.own_policies();
        let own = own_policies.iter().find(|(other, _)| key.equivalent(other));
        if let Some((_, own)) = own {
            breaker.follow(own.clone());
        }
    }

    fn own_policies(&self) -> MutexGuard<'_, HashMap<K, Live<CircuitBreakerPolicy>>> {
        self.own_policies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, O> Shared<K, O>
where
    K: Hash + Eq + fmt::Display,
    O: Observe<CircuitBreakerEvent>,
{
    fn make(&self, key: &K) -> CircuitBreaker<O> {
        let name = match &self.prefix {
            Some(prefix) => format!("{prefix}/{key}"),
            None => key.to_string(),
        };
        CircuitBreaker::builder(self.policy.clone())
            .name(name)
            .observe_shared(Arc::clone(&self.observer))
            .build()
    }
}

impl<K, O> CircuitBreakerPanel<K, O> {
    pub(crate) const fn from_shared(shared: Arc<Shared<K, O>>) -> Self {
        Self { shared }
    }
}

impl<K, O> Clone for CircuitBreakerPanel<K, O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, O> fmt::Debug for CircuitBreakerPanel<K, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerPanel")
            .field("prefix", &self.shared.prefix)
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}
