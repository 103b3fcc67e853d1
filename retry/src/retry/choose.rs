use std::{fmt, num::NonZeroUsize, sync::Arc};

use outrigger_core::{
    Enforcement, Keyed, Live, LiveReader, Method, MethodRef, NameMethod, Observe, PerMethod,
};

use super::{Retry, RetryBuilder, RetryEvent, RetryPolicy};

/// Chooses how a request is retried.
pub trait ChooseRetry<Request> {
    /// Who is told what the retries do.
    type Observer: Observe<RetryEvent>;

    /// The retries of `request` and the policy as it is now; `None` to send it once and count
    /// nothing.
    fn choose(&mut self, request: &Request) -> Option<(Retry<Self::Observer>, RetryPolicy)>;
}

/// One policy for all requests.
#[derive(Debug)]
pub struct OneRetry<O = ()> {
    pub(super) retry: Retry<O>,
    policy: LiveReader<RetryPolicy>,
}

impl<O> OneRetry<O> {
    /// Retries all requests by `retry`.
    #[must_use]
    pub fn new(retry: Retry<O>) -> Self {
        let policy = retry.policy().reader();
        Self { retry, policy }
    }
}

impl<O> Clone for OneRetry<O> {
    fn clone(&self) -> Self {
        Self { retry: self.retry.clone(), policy: self.policy.clone() }
    }
}

impl<Request, O: Observe<RetryEvent>> ChooseRetry<Request> for OneRetry<O> {
    type Observer = O;

    fn choose(&mut self, _request: &Request) -> Option<(Retry<O>, RetryPolicy)> {
        let policy = *self.policy.get();
        let is_on = policy.enforcement() != Enforcement::Disabled;
        is_on.then(|| (self.retry.clone(), policy))
    }
}

/// A policy and latencies for each method, all on one budget.
///
/// What a method needs is made on its first call, for at most 1 000 methods at a time; then what
/// was not used lately gives way (see [`Keyed`]). Clones share it.
pub struct MethodRetries<N, O = ()> {
    shared: Arc<OfMethods<O>>,
    namer: N,
}

struct OfMethods<O> {
    policies: PerMethod<Live<RetryPolicy>>,
    methods: Keyed<Method, Retry<O>>,
    settings: RetryBuilder<O>,
}

/// How many methods are known at a time.
const MOST_METHODS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// The name of calls that say no method: the word of OpenTelemetry's conventions.
const OTHER: MethodRef<'static> = MethodRef { service: "_OTHER", method: "_OTHER" };

impl<N> MethodRetries<N> {
    /// A policy for each method, as `namer` names it.
    #[must_use]
    pub fn new(policies: PerMethod<Live<RetryPolicy>>, namer: N) -> Self {
        let settings = Retry::builder(policies.get(None).clone());
        Self::make(policies, settings, namer)
    }
}

impl<N, O> MethodRetries<N, O> {
    fn make(policies: PerMethod<Live<RetryPolicy>>, settings: RetryBuilder<O>, namer: N) -> Self {
        let methods = Keyed::new(MOST_METHODS);
        Self { shared: Arc::new(OfMethods { policies, methods, settings }), namer }
    }

    pub(super) fn rebuild<P>(
        self,
        change: impl FnOnce(RetryBuilder<O>) -> RetryBuilder<P>,
    ) -> MethodRetries<N, P> {
        let settings = change(self.shared.settings.clone());
        MethodRetries::make(self.shared.policies.clone(), settings, self.namer)
    }

    /// The retries of `method`, if it was called. Does not count as a use.
    #[must_use]
    pub fn get(&self, method: MethodRef<'_>) -> Option<Retry<O>> {
        self.shared.methods.peek(&method, Retry::clone)
    }

    /// Every method that was called, with its retries, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<(Method, Retry<O>)> {
        let mut all = Vec::with_capacity(self.shared.methods.len());
        self.shared.methods.for_each(|method, retry| all.push((method.clone(), retry.clone())));
        all
    }

    fn of_method(&self, named: Option<MethodRef<'_>>) -> Retry<O> {
        let OfMethods { policies, methods, settings } = &*self.shared;
        let name = named.unwrap_or(OTHER);
        let make = || {
            let method = name.to_owned();
            let retry = settings.clone().name(method.as_str()).policy(policies.get(named).clone());
            (method, retry.build())
        };
        methods.with(&name, make, Retry::clone)
    }
}

impl<Request, N, O> ChooseRetry<Request> for MethodRetries<N, O>
where
    N: NameMethod<Request>,
    O: Observe<RetryEvent>,
{
    type Observer = O;

    fn choose(&mut self, request: &Request) -> Option<(Retry<O>, RetryPolicy)> {
        let retry = self.of_method(self.namer.name_method(request));
        let policy = **retry.policy().load();
        (policy.enforcement() != Enforcement::Disabled).then_some((retry, policy))
    }
}

impl<N: Clone, O> Clone for MethodRetries<N, O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), namer: self.namer.clone() }
    }
}

impl<N, O> fmt::Debug for MethodRetries<N, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MethodRetries")
            .field("policies", &self.shared.policies)
            .field("methods", &self.shared.methods.len())
            .finish_non_exhaustive()
    }
}
