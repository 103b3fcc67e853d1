use std::{fmt, hash::Hash};

use outrigger_core::{Criticality, Method, NameMethod, Observe, Rejection};

use super::{
    event::ClientThrottleEvent, limit::ClientThrottle, panel::ClientThrottlePanel,
    permit::ThrottlePermit,
};
use crate::{ByKey, ByMethod, OTHER};

/// Which throttle a request has to ask.
///
/// [`ClientThrottle`] is the one for all requests; [`KeyedThrottle`] chooses from a panel.
pub trait ChooseThrottle<Request> {
    /// Who is told what the throttles do.
    type Observer: Observe<ClientThrottleEvent>;

    /// Asks the throttle of `request` whether the call may be sent.
    ///
    /// # Errors
    ///
    /// The refusal of that throttle.
    fn try_acquire_for(
        &self,
        request: &Request,
        criticality: Criticality,
    ) -> Result<ThrottlePermit<Self::Observer>, Rejection>;
}

impl<Request, O: Observe<ClientThrottleEvent>> ChooseThrottle<Request> for ClientThrottle<O> {
    type Observer = O;

    fn try_acquire_for(
        &self,
        _request: &Request,
        criticality: Criticality,
    ) -> Result<ThrottlePermit<O>, Rejection> {
        self.try_acquire(criticality)
    }
}

/// Chooses a throttle of a panel by a key that `N` reads from the request.
#[derive(Debug)]
pub struct KeyedThrottle<N, K, O = ()> {
    pub(super) panel: ClientThrottlePanel<K, O>,
    pub(super) read_key: N,
}

impl<N: Clone, K, O> Clone for KeyedThrottle<N, K, O> {
    fn clone(&self) -> Self {
        Self { panel: self.panel.clone(), read_key: self.read_key.clone() }
    }
}

impl<Request, F, K, O> ChooseThrottle<Request> for KeyedThrottle<ByKey<F>, K, O>
where
    F: Fn(&Request) -> K,
    K: Hash + Eq + Clone + fmt::Display,
    O: Observe<ClientThrottleEvent>,
{
    type Observer = O;

    fn try_acquire_for(
        &self,
        request: &Request,
        criticality: Criticality,
    ) -> Result<ThrottlePermit<O>, Rejection> {
        let key = (self.read_key.0)(request);
        let ask = |throttle: &ClientThrottle<O>| throttle.try_acquire(criticality);
        self.panel.with_throttle(&key, || key.clone(), ask)
    }
}

impl<Request, N, O> ChooseThrottle<Request> for KeyedThrottle<ByMethod<N>, Method, O>
where
    N: NameMethod<Request>,
    O: Observe<ClientThrottleEvent>,
{
    type Observer = O;

    fn try_acquire_for(
        &self,
        request: &Request,
        criticality: Criticality,
    ) -> Result<ThrottlePermit<O>, Rejection> {
        let method = self.read_key.0.name_method(request).unwrap_or(OTHER);
        let ask = |throttle: &ClientThrottle<O>| throttle.try_acquire(criticality);
        self.panel.with_throttle(&method, || method.to_owned(), ask)
    }
}
