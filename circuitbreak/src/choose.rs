use std::{fmt, hash::Hash};

use outrigger_core::{Method, MethodRef, NameMethod, Observe, Rejection};

use crate::{CircuitBreaker, CircuitBreakerEvent, CircuitBreakerPanel, Permit};

/// Which breaker a request has to ask.
///
/// [`CircuitBreaker`] is the one for all requests; [`KeyedBy`] chooses from a panel.
pub trait ChooseBreaker<Request> {
    /// Who is told what the breakers do.
    type Observer: Observe<CircuitBreakerEvent>;

    /// Asks the breaker of `request` whether the call may pass.
    ///
    /// # Errors
    ///
    /// The refusal of that breaker.
    fn try_acquire_for(&self, request: &Request) -> Result<Permit<Self::Observer>, Rejection>;
}

impl<Request, O: Observe<CircuitBreakerEvent>> ChooseBreaker<Request> for CircuitBreaker<O> {
    type Observer = O;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: a third of the cost is moves")]
    fn try_acquire_for(&self, _request: &Request) -> Result<Permit<O>, Rejection> {
        self.try_acquire()
    }
}

/// Chooses a breaker of a panel by a key that `N` reads from the request.
#[derive(Debug)]
pub struct KeyedBy<N, K, O = ()> {
    pub(crate) panel: CircuitBreakerPanel<K, O>,
    pub(crate) read_key: N,
}

impl<N: Clone, K, O> Clone for KeyedBy<N, K, O> {
    fn clone(&self) -> Self {
        Self { panel: self.panel.clone(), read_key: self.read_key.clone() }
    }
}

/// Reads the key from a closure.
#[derive(Clone, Copy, Debug)]
pub struct ByKey<F>(pub(crate) F);

/// Reads the key from the name of the method, which allocates nothing. Requests that name no
/// method share the key `_OTHER/_OTHER` (the word of OpenTelemetry's conventions).
#[derive(Clone, Copy, Debug)]
pub struct ByMethod<N>(pub(crate) N);

const OTHER: MethodRef<'static> = MethodRef { service: "_OTHER", method: "_OTHER" };

impl<Request, F, K, O> ChooseBreaker<Request> for KeyedBy<ByKey<F>, K, O>
where
    F: Fn(&Request) -> K,
    K: Hash + Eq + Clone + fmt::Display,
    O: Observe<CircuitBreakerEvent>,
{
    type Observer = O;

    fn try_acquire_for(&self, request: &Request) -> Result<Permit<O>, Rejection> {
        let ByKey(read) = &self.read_key;
        self.panel.try_acquire(&read(request))
    }
}

impl<Request, N, O> ChooseBreaker<Request> for KeyedBy<ByMethod<N>, Method, O>
where
    N: NameMethod<Request>,
    O: Observe<CircuitBreakerEvent>,
{
    type Observer = O;

    fn try_acquire_for(&self, request: &Request) -> Result<Permit<O>, Rejection> {
        let ByMethod(namer) = &self.read_key;
        let method = namer.name_method(request).unwrap_or(OTHER);
        self.panel.with_breaker(&method, || method.to_owned(), CircuitBreaker::try_acquire)
    }
}
