use std::{fmt, hash::Hash, num::NonZeroUsize, sync::Arc};

use equivalent::Equivalent;
use outrigger_core::{Keyed, Live, Observe};

use super::{
    event::AdaptiveLimitEvent, limit::AdaptiveLimit, policy::AdaptiveLimitPolicy,
    weak::WeakAdaptiveLimitPanel,
};
use crate::DEFAULT_CAPACITY;

/// An adaptive limit for each key: a method, an endpoint.
///
/// Limits are made on first use. Their number is capped; where a new key needs room, limits with
/// nobody inside that were not used lately give way (see [`Keyed`]), and what they learnt is lost.
/// Clones share the limits.
pub struct AdaptiveLimitPanel<K, O = ()> {
    shared: Arc<Shared<K, O>>,
}

pub(super) struct Shared<K, O> {
    limits: Keyed<K, AdaptiveLimit<O>>,
    policy: Live<AdaptiveLimitPolicy>,
    observer: Arc<O>,
}

impl<K: Hash + Eq> AdaptiveLimitPanel<K> {
    /// Limits with this policy; at most 10 000.
    #[must_use]
    pub fn new(policy: impl Into<Live<AdaptiveLimitPolicy>>) -> Self {
        Self::with_capacity(policy, DEFAULT_CAPACITY)
    }

    /// Limits with this policy; at most `keys`.
    #[must_use]
    pub fn with_capacity(policy: impl Into<Live<AdaptiveLimitPolicy>>, keys: NonZeroUsize) -> Self {
        Self::make(policy.into(), keys, Arc::new(()))
    }
}

impl<K: Hash + Eq, O> AdaptiveLimitPanel<K, O> {
    fn make(policy: Live<AdaptiveLimitPolicy>, keys: NonZeroUsize, observer: Arc<O>) -> Self {
        Self { shared: Arc::new(Shared { limits: Keyed::new(keys), policy, observer }) }
    }

    /// A panel like this one, with limits of its own, that tells `observer` what they do.
    #[must_use]
    pub fn observe<P>(self, observer: P) -> AdaptiveLimitPanel<K, P>
    where
        P: Observe<AdaptiveLimitEvent>,
    {
        let Shared { limits, policy, .. } = &*self.shared;
        AdaptiveLimitPanel::make(policy.clone(), limits.capacity(), Arc::new(observer))
    }

    /// A panel like this one, with its policy and observer but limits of its own.
    #[must_use]
    pub fn separate(&self) -> Self {
        let Shared { limits, policy, observer } = &*self.shared;
        Self::make(policy.clone(), limits.capacity(), Arc::clone(observer))
    }

    /// The limit of `key`, if it has one. Does not count as a use.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<AdaptiveLimit<O>>
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        self.shared.limits.peek(key, AdaptiveLimit::clone)
    }

    /// Every key with its limit, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<(K, AdaptiveLimit<O>)>
    where
        K: Clone,
    {
        let mut all = Vec::with_capacity(self.len());
        self.shared.limits.for_each(|key, limit| all.push((key.clone(), limit.clone())));
        all
    }

    /// How many keys have a limit.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.limits.len()
    }

    /// Whether no key has a limit yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.limits.is_empty()
    }

    /// The policy of all keys, to read or to replace.
    #[must_use]
    pub fn policy(&self) -> &Live<AdaptiveLimitPolicy> {
        &self.shared.policy
    }
}

impl<K, O> AdaptiveLimitPanel<K, O>
where
    K: Hash + Eq + fmt::Display,
    O: Observe<AdaptiveLimitEvent>,
{
    /// The limit of `key`, made if need be.
    pub fn limit(&self, key: &K) -> AdaptiveLimit<O>
    where
        K: Clone,
    {
        self.with_limit(key, || key.clone(), AdaptiveLimit::clone)
    }

    pub(super) fn with_limit<Q, R>(
        &self,
        key: &Q,
        make_key: impl FnOnce() -> K,
        use_it: impl FnOnce(&AdaptiveLimit<O>) -> R,
    ) -> R
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        let Shared { limits, policy, observer } = &*self.shared;
        let make = || {
            let key = make_key();
            let limit = AdaptiveLimit::builder(policy.clone())
                .name(key.to_string())
                .observe_shared(Arc::clone(observer))
                .single_stripe()
                .build();
            (key, limit)
        };
        limits.with(key, make, use_it)
    }
}

impl<K, O> AdaptiveLimitPanel<K, O> {
    /// A handle that does not keep the panel alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakAdaptiveLimitPanel<K, O> {
        WeakAdaptiveLimitPanel::new(&self.shared)
    }

    pub(super) const fn from_shared(shared: Arc<Shared<K, O>>) -> Self {
        Self { shared }
    }
}

impl<K, O> Clone for AdaptiveLimitPanel<K, O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, O> fmt::Debug for AdaptiveLimitPanel<K, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimitPanel")
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}
