use std::{fmt, sync::Arc};

use outrigger_core::{Live, Observe};
use tokio::time::Instant;

use super::{
    event::AdaptiveLimitEvent,
    limit::{AdaptiveLimit, MakeLimiter, Relay, Shared, Stripe, Tell},
    limiter::Limiter,
    policy::AdaptiveLimitPolicy,
    state::{State, Windows},
};
use crate::{
    ConcurrencyLimit,
    sync::{AtomicU64, Mutex},
};

/// Makes an [`AdaptiveLimit`].
#[derive(Clone)]
pub struct AdaptiveLimitBuilder<O = ()> {
    pub(super) policy: Live<AdaptiveLimitPolicy>,
    pub(super) name: Option<Arc<str>>,
    pub(super) observer: Arc<O>,
    pub(super) tell: Tell<O>,
    pub(super) make_limiter: Option<MakeLimiter>,
    pub(super) stripes: usize,
}

impl<O> AdaptiveLimitBuilder<O> {
    /// Names the limit in refusals and events. Default: no name.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Tells `observer` what the limit does. Default: nobody.
    #[must_use]
    pub fn observe<P>(self, observer: P) -> AdaptiveLimitBuilder<P>
    where
        P: Observe<AdaptiveLimitEvent>,
    {
        self.observe_shared(Arc::new(observer))
    }

    pub(super) fn observe_shared<P>(self, observer: Arc<P>) -> AdaptiveLimitBuilder<P>
    where
        P: Observe<AdaptiveLimitEvent>,
    {
        let Self { policy, name, make_limiter, stripes, .. } = self;
        AdaptiveLimitBuilder { policy, name, observer, tell: P::observe, make_limiter, stripes }
    }

    /// Lets the algorithm that `make` makes find the limit, in place of the policy's. [`Limiter`] says
    /// what it must not do.
    #[must_use]
    pub fn limiter<M>(mut self, make: impl Fn() -> M + Send + Sync + 'static) -> Self
    where
        M: Limiter + 'static,
    {
        self.make_limiter = Some(Arc::new(move || Box::new(make())));
        self
    }

    /// For one of many limits: smaller, and threads that share it share its counts.
    pub(super) const fn single_stripe(mut self) -> Self {
        self.stripes = 1;
        self
    }

    /// Makes the limit, with nobody inside.
    #[must_use]
    pub fn build(self) -> AdaptiveLimit<O> {
        let Self { policy, name, observer, tell, make_limiter, stripes } = self;
        let present = *policy.get();
        let own = make_limiter.as_ref().map(|make| make());
        let state = State::new(present, own);
        let mut places = ConcurrencyLimit::builder(present.places(present.initial_limit()))
            .observe_shared(Arc::new(Relay(Arc::clone(&observer))));
        if let Some(name) = name {
            places = places.name(name);
        }
        if stripes == 1 {
            places = places.single_stripe();
        }
        let shared = Arc::new(Shared {
            places: places.build(),
            windows: Windows::new(&present, stripes, Instant::now()),
            policy,
            applied: AtomicU64::new(0),
            state: Mutex::new(state),
            make_limiter,
            observer,
            tell,
        });
        let stripe = |index| Arc::new(Stripe { shared: Arc::clone(&shared), index });
        AdaptiveLimit { stripes: (0..stripes).map(stripe).collect() }
    }
}

impl<O> fmt::Debug for AdaptiveLimitBuilder<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimitBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}
