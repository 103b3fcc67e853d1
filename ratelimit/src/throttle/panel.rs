use std::{fmt, hash::Hash, num::NonZeroUsize, sync::Arc};

use equivalent::Equivalent;
use outrigger_core::{Keyed, Live, Observe};

use super::{event::ClientThrottleEvent, limit::ClientThrottle, policy::ClientThrottlePolicy};
use crate::DEFAULT_CAPACITY;

/// A client throttle for each key: a callee, a method, an endpoint.
///
/// Throttles are made on first use. Their number is capped; where a new key needs room, throttles
/// whose window is empty give way, since nothing is lost with them (see [`Keyed`]). Clones share
/// the throttles.
pub struct ClientThrottlePanel<K, O = ()> {
    shared: Arc<Shared<K, O>>,
}

struct Shared<K, O> {
    throttles: Keyed<K, ClientThrottle<O>>,
    policy: Live<ClientThrottlePolicy>,
    observer: Arc<O>,
}

impl<K: Hash + Eq> ClientThrottlePanel<K> {
    /// Throttles with this policy; at most 10 000.
    #[must_use]
    pub fn new(policy: impl Into<Live<ClientThrottlePolicy>>) -> Self {
        Self::with_capacity(policy, DEFAULT_CAPACITY)
    }

    /// Throttles with this policy; at most `keys`.
    #[must_use]
    pub fn with_capacity(
        policy: impl Into<Live<ClientThrottlePolicy>>,
        keys: NonZeroUsize,
    ) -> Self {
        Self::make(policy.into(), keys, Arc::new(()))
    }
}

impl<K: Hash + Eq, O> ClientThrottlePanel<K, O> {
    fn make(policy: Live<ClientThrottlePolicy>, keys: NonZeroUsize, observer: Arc<O>) -> Self {
        Self { shared: Arc::new(Shared { throttles: Keyed::new(keys), policy, observer }) }
    }

    /// A panel like this one, with throttles of its own, that tells `observer` what they do.
    #[must_use]
    pub fn observe<P>(self, observer: P) -> ClientThrottlePanel<K, P>
    where
        P: Observe<ClientThrottleEvent>,
    {
        let Shared { throttles, policy, .. } = &*self.shared;
        ClientThrottlePanel::make(policy.clone(), throttles.capacity(), Arc::new(observer))
    }

    /// A panel like this one, with its policy and observer but throttles of its own.
    #[must_use]
    pub fn separate(&self) -> Self {
        let Shared { throttles, policy, observer } = &*self.shared;
        Self::make(policy.clone(), throttles.capacity(), Arc::clone(observer))
    }

    /// The throttle of `key`, if it has one. Does not count as a use.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<ClientThrottle<O>>
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        self.shared.throttles.peek(key, ClientThrottle::clone)
    }

    /// Every key with its throttle, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<(K, ClientThrottle<O>)>
    where
        K: Clone,
    {
        let mut all = Vec::with_capacity(self.len());
        self.shared.throttles.for_each(|key, throttle| all.push((key.clone(), throttle.clone())));
        all
    }

    /// How many keys have a throttle.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.throttles.len()
    }

    /// Whether no key has a throttle yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.throttles.is_empty()
    }

    /// The policy of all keys, to read or to replace.
    #[must_use]
    pub fn policy(&self) -> &Live<ClientThrottlePolicy> {
        &self.shared.policy
    }
}

impl<K, O> ClientThrottlePanel<K, O>
where
    K: Hash + Eq + fmt::Display,
    O: Observe<ClientThrottleEvent>,
{
    /// The throttle of `key`, made if need be.
    pub fn throttle(&self, key: &K) -> ClientThrottle<O>
    where
        K: Clone,
    {
        self.with_throttle(key, || key.clone(), ClientThrottle::clone)
    }

    pub(super) fn with_throttle<Q, R>(
        &self,
        key: &Q,
        make_key: impl FnOnce() -> K,
        use_it: impl FnOnce(&ClientThrottle<O>) -> R,
    ) -> R
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        let Shared { throttles, policy, observer } = &*self.shared;
        let make = || {
            let key = make_key();
            let throttle = ClientThrottle::builder(policy.clone())
                .name(key.to_string())
                .observe_shared(Arc::clone(observer))
                .single_stripe()
                .build();
            (key, throttle)
        };
        throttles.with(key, make, use_it)
    }
}

impl<K, O> Clone for ClientThrottlePanel<K, O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, O> fmt::Debug for ClientThrottlePanel<K, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientThrottlePanel")
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}
