//! Limits by key.

/// Makes the panel of a limit: one limit for each key, made on first use, their number capped. Says
/// what a limit is called there, by which method it is had, and how its builder is told that it is
/// one of many, if it has to be.
macro_rules! limit_panel {
    (
        $(#[$doc:meta])*
        $Panel:ident of $Limit:ident, $Policy:ident, $Event:ident, $Weak:ident
        ($noun:literal, $get_or_make:ident, $with:ident $(, $one_of_many:ident)?)
    ) => {
        use std::{fmt, hash::Hash, num::NonZeroUsize, sync::Arc};

        use equivalent::Equivalent;
        use outrigger_core::{Keyed, Live, Observe};

        $(#[$doc])*
        pub struct $Panel<K, O = ()> {
            shared: Arc<Shared<K, O>>,
        }

        pub(super) struct Shared<K, O> {
            limits: Keyed<K, $Limit<O>>,
            policy: Live<$Policy>,
            observer: Arc<O>,
        }

        impl<K: Hash + Eq> $Panel<K> {
            #[doc = concat!("A ", $noun, " with this policy for each key; for at most 10 000.")]
            #[must_use]
            pub fn new(policy: impl Into<Live<$Policy>>) -> Self {
                Self::with_capacity(policy, DEFAULT_CAPACITY)
            }

            #[doc = concat!("A ", $noun, " with this policy for each key; for at most `keys`.")]
            #[must_use]
            pub fn with_capacity(
                policy: impl Into<Live<$Policy>>,
                keys: NonZeroUsize,
            ) -> Self {
                Self::make(policy.into(), keys, Arc::new(()))
            }
        }

        impl<K: Hash + Eq, O> $Panel<K, O> {
            fn make(policy: Live<$Policy>, keys: NonZeroUsize, observer: Arc<O>) -> Self {
                Self { shared: Arc::new(Shared { limits: Keyed::new(keys), policy, observer }) }
            }

            #[doc = concat!("A panel like this one, with ", $noun, "s of its own, that tells")]
            /// `observer` what they do.
            #[must_use]
            pub fn observe<P>(self, observer: P) -> $Panel<K, P>
            where
                P: Observe<$Event>,
            {
                let Shared { limits, policy, .. } = &*self.shared;
                $Panel::make(policy.clone(), limits.capacity(), Arc::new(observer))
            }

            #[doc = concat!("A panel like this one, with its policy and observer but ", $noun, "s")]
            /// of its own.
            #[must_use]
            pub fn separate(&self) -> Self {
                let Shared { limits, policy, observer } = &*self.shared;
                Self::make(policy.clone(), limits.capacity(), Arc::clone(observer))
            }

            #[doc = concat!("The ", $noun, " of `key`, if it has one. Does not count as a use.")]
            #[must_use]
            pub fn get<Q>(&self, key: &Q) -> Option<$Limit<O>>
            where
                Q: Equivalent<K> + Hash + ?Sized,
            {
                self.shared.limits.peek(key, $Limit::clone)
            }

            #[doc = concat!("Every key with its ", $noun, ", in no order.")]
            #[must_use]
            pub fn list(&self) -> Vec<(K, $Limit<O>)>
            where
                K: Clone,
            {
                let mut all = Vec::with_capacity(self.len());
                self.shared.limits.for_each(|key, limit| all.push((key.clone(), limit.clone())));
                all
            }

            #[doc = concat!("How many keys have a ", $noun, ".")]
            #[must_use]
            pub fn len(&self) -> usize {
                self.shared.limits.len()
            }

            #[doc = concat!("Whether no key has a ", $noun, " yet.")]
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.shared.limits.is_empty()
            }

            /// The policy of all keys, to read or to replace.
            #[must_use]
            pub fn policy(&self) -> &Live<$Policy> {
                &self.shared.policy
            }
        }

        impl<K, O> $Panel<K, O>
        where
            K: Hash + Eq + fmt::Display,
            O: Observe<$Event>,
        {
            #[doc = concat!("The ", $noun, " of `key`, made if need be.")]
            pub fn $get_or_make(&self, key: &K) -> $Limit<O>
            where
                K: Clone,
            {
                self.$with(key, || key.clone(), $Limit::clone)
            }

            pub(super) fn $with<Q, R>(
                &self,
                key: &Q,
                make_key: impl FnOnce() -> K,
                use_it: impl FnOnce(&$Limit<O>) -> R,
            ) -> R
            where
                Q: Equivalent<K> + Hash + ?Sized,
            {
                let Shared { limits, policy, observer } = &*self.shared;
                let make = || {
                    let key = make_key();
                    let limit = $Limit::builder(policy.clone())
                        .name(key.to_string())
                        .observe_shared(Arc::clone(observer))
                        $(.$one_of_many())?
                        .build();
                    (key, limit)
                };
                limits.with(key, make, use_it)
            }
        }

        impl<K, O> $Panel<K, O> {
            /// A handle that does not keep the panel alive.
            #[must_use]
            pub fn downgrade(&self) -> $Weak<K, O> {
                $Weak::new(&self.shared)
            }

            pub(super) const fn from_shared(shared: Arc<Shared<K, O>>) -> Self {
                Self { shared }
            }
        }

        impl<K, O> Clone for $Panel<K, O> {
            fn clone(&self) -> Self {
                Self { shared: Arc::clone(&self.shared) }
            }
        }

        impl<K, O> fmt::Debug for $Panel<K, O> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($Panel))
                    .field("policy", &self.shared.policy)
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use limit_panel;
