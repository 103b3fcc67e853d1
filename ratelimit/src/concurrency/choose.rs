use std::{fmt, hash::Hash};

use outrigger_core::{Complete, Method, MethodRef, NameMethod, Observe, Rejection};

use super::{
    engine::Asking,
    event::ConcurrencyLimitEvent,
    limit::{ConcurrencyLimit, Entry},
    panel::ConcurrencyLimitPanel,
    permit::Permit,
    wait::Wait,
};
use crate::{ByKey, ByMethod, OTHER};

/// Which limit a request has to ask.
///
/// [`ConcurrencyLimit`] is the one for all requests; [`KeyedConcurrency`] chooses from a panel.
pub trait ChooseLimit<Request> {
    /// The place.
    type Permit: Complete;
    /// The wait for one.
    type Wait: Future<Output = Result<Self::Permit, Rejection>>;

    /// Asks the limit of `request` for a place.
    fn enter_for(&self, request: &Request, asking: Asking) -> Entry<Self::Permit, Self::Wait>;
}

/// What a place learns of the call that it was for.
pub trait LearnResult<Response, Error> {
    /// The call has its response, or failed.
    fn learn(&mut self, result: Result<&Response, &Error>);
}

/// A fixed limit learns nothing.
impl<O, Response, Error> LearnResult<Response, Error> for Permit<O> {
    fn learn(&mut self, _result: Result<&Response, &Error>) {}
}

impl<Request, O: Observe<ConcurrencyLimitEvent>> ChooseLimit<Request> for ConcurrencyLimit<O> {
    type Permit = Permit<O>;
    type Wait = Wait<O>;

    fn enter_for(&self, _request: &Request, asking: Asking) -> Entry<Permit<O>, Wait<O>> {
        self.enter(asking)
    }
}

/// Chooses a limit of a panel by a key that `N` reads from the request.
#[derive(Debug)]
pub struct KeyedConcurrency<N, K, O = ()> {
    pub(super) panel: ConcurrencyLimitPanel<K, O>,
    pub(super) read_key: N,
}

impl<N: Clone, K, O> Clone for KeyedConcurrency<N, K, O> {
    fn clone(&self) -> Self {
        Self { panel: self.panel.clone(), read_key: self.read_key.clone() }
    }
}

impl<Request, F, K, O> ChooseLimit<Request> for KeyedConcurrency<ByKey<F>, K, O>
where
    F: Fn(&Request) -> K,
    K: Hash + Eq + Clone + fmt::Display,
    O: Observe<ConcurrencyLimitEvent>,
{
    type Permit = Permit<O>;
    type Wait = Wait<O>;

    fn enter_for(&self, request: &Request, asking: Asking) -> Entry<Permit<O>, Wait<O>> {
        let ByKey(read) = &self.read_key;
        let key = read(request);
        self.panel.with_limit(&key, || key.clone(), |limit| limit.enter(asking))
    }
}

impl<Request, N, O> ChooseLimit<Request> for KeyedConcurrency<ByMethod<N>, Method, O>
where
    N: NameMethod<Request>,
    O: Observe<ConcurrencyLimitEvent>,
{
    type Permit = Permit<O>;
    type Wait = Wait<O>;

    fn enter_for(&self, request: &Request, asking: Asking) -> Entry<Permit<O>, Wait<O>> {
        let ByMethod(namer) = &self.read_key;
        let method: MethodRef<'_> = namer.name_method(request).unwrap_or(OTHER);
        self.panel.with_limit(&method, || method.to_owned(), |limit| limit.enter(asking))
    }
}
