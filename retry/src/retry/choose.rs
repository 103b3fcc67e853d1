use std::{fmt, num::NonZeroUsize, sync::Arc};

use outrigger_core::{
    Enforcement, Idle, Keyed, Live, Method, MethodRef, NameMethod, Observe, PerMethod,
    stripe_count, thread_number,
};

use super::{Retry, RetryBuilder, RetryEvent, RetryPolicy};

/// A [`Retry`] with its policy as it is now: what one call is governed by, from its begin to its
/// end. Clones are counted, not copied.
pub struct CurrentRetry<O = ()> {
    both: Arc<Both<O>>,
}

/// On cache lines of its own, count of owners and all.
#[repr(align(128))]
struct Both<O> {
    retry: Retry<O>,
    policy: RetryPolicy,
    version: u64,
}

impl<O> CurrentRetry<O> {
    /// Reads the policy of `retry`.
    #[must_use]
    pub fn new(retry: Retry<O>) -> Self {
        // The version first: what is read after it is of that version or a newer one.
        let version = retry.policy().version();
        let policy = **retry.policy().load();
        Self { both: Arc::new(Both { retry, policy, version }) }
    }

    /// The handle.
    #[must_use]
    pub fn retry(&self) -> &Retry<O> {
        &self.both.retry
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &RetryPolicy {
        &self.both.policy
    }

    /// Reads the policy again, if it was replaced since. Says whether it was.
    pub fn refresh(&mut self) -> bool {
        let is_old = self.is_old();
        if is_old {
            *self = Self::new(self.both.retry.clone());
        }
        is_old
    }

    #[inline]
    fn is_old(&self) -> bool {
        self.both.version != self.both.retry.policy().version()
    }
}

impl<O> Clone for CurrentRetry<O> {
    fn clone(&self) -> Self {
        Self { both: Arc::clone(&self.both) }
    }
}

impl<O> fmt::Debug for CurrentRetry<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.both.retry.fmt(f)
    }
}

/// Chooses how a request is retried.
pub trait ChooseRetry<Request> {
    /// Who is told what the retries do.
    type Observer: Observe<RetryEvent>;

    /// The retries of `request`, with the policy as it is now; `None` to send it once and count
    /// nothing.
    fn choose(&mut self, request: &Request) -> Option<CurrentRetry<Self::Observer>>;
}

/// One policy for all requests.
#[derive(Debug)]
pub struct OneRetry<O = ()> {
    /// One for each stripe of threads: a call clones its thread's, so that the count of owners is
    /// not written by two threads.
    stripes: Stripes<O>,
    /// Those with the policy as some clone last found it: what one made, the others need not.
    newest: Live<Stripes<O>>,
}

type Stripes<O> = Arc<[CurrentRetry<O>]>;

impl<O> OneRetry<O> {
    /// Retries all requests by `retry`.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a handle is given away")]
    pub fn new(retry: Retry<O>) -> Self {
        let stripes = stripes_of(&retry);
        Self { newest: Live::new(Arc::clone(&stripes)), stripes }
    }

    /// The handle.
    #[must_use]
    pub fn retry(&self) -> &Retry<O> {
        self.stripes[0].retry()
    }

    /// What the calls of this thread are governed by, with the policy as this clone last found it.
    #[inline]
    #[must_use]
    pub fn current(&self) -> &CurrentRetry<O> {
        &self.stripes[self.stripe()]
    }

    /// Reads the policy again, if it was replaced since, and gives what the calls of this thread are
    /// governed by. Other clones do so by themselves.
    #[inline]
    pub fn refresh(&mut self) -> &CurrentRetry<O> {
        let stripe = self.stripe();
        if self.stripes[stripe].is_old() {
            self.find_newest();
        }
        &self.stripes[stripe]
    }

    /// That of this thread. Asked once in a call: a number of its own costs a look into the thread.
    #[inline]
    fn stripe(&self) -> usize {
        thread_number() & (self.stripes.len() - 1)
    }

    /// After a replacement one clone pays for all: most are called once and dropped.
    #[cold]
    fn find_newest(&mut self) {
        // The first was made first: if it is not old, none is.
        let is_old = |stripes: &Stripes<O>| stripes[0].is_old();
        if is_old(&self.newest.load()) {
            // Looked at again, since another clone may have been here before.
            self.newest.update(|newest| {
                if is_old(newest) { stripes_of(newest[0].retry()) } else { Arc::clone(newest) }
            });
        }
        self.stripes = Arc::clone(&self.newest.load());
    }
}

fn stripes_of<O>(retry: &Retry<O>) -> Stripes<O> {
    (0..stripe_count()).map(|_| CurrentRetry::new(retry.clone())).collect()
}

impl<O> Clone for OneRetry<O> {
    fn clone(&self) -> Self {
        Self { stripes: Arc::clone(&self.stripes), newest: self.newest.clone() }
    }
}

impl<Request, O: Observe<RetryEvent>> ChooseRetry<Request> for OneRetry<O> {
    type Observer = O;

    #[inline]
    fn choose(&mut self, _request: &Request) -> Option<CurrentRetry<O>> {
        let current = self.refresh();
        let is_on = current.policy().enforcement() != Enforcement::Disabled;
        is_on.then(|| current.clone())
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
    methods: Keyed<Method, OfMethod<O>>,
    settings: RetryBuilder<O>,
}

struct OfMethod<O>(Live<CurrentRetry<O>>);

impl<O> OfMethod<O> {
    fn new(retry: Retry<O>) -> Self {
        Self(Live::new(CurrentRetry::new(retry)))
    }

    fn current(&self) -> CurrentRetry<O> {
        let mut current = CurrentRetry::clone(&self.0.load());
        if current.refresh() {
            self.0.replace(current.clone());
        }
        current
    }

    fn retry(&self) -> Retry<O> {
        self.current().retry().clone()
    }
}

/// The latencies of a method are all that would be lost, and come back within seconds.
impl<O> Idle for OfMethod<O> {
    fn is_idle(&self) -> bool {
        true
    }
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
        self.shared.methods.peek(&method, OfMethod::retry)
    }

    /// Every method that was called, with its retries, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<(Method, Retry<O>)> {
        let mut all = Vec::with_capacity(self.shared.methods.len());
        self.shared.methods.for_each(|method, retry| all.push((method.clone(), retry.retry())));
        all
    }

    fn of_method(&self, named: Option<MethodRef<'_>>) -> CurrentRetry<O> {
        let OfMethods { policies, methods, settings } = &*self.shared;
        let name = named.unwrap_or(OTHER);
        let make = || {
            let method = name.to_owned();
            let retry = settings.clone().name(method.as_str()).policy(policies.get(named).clone());
            (method, OfMethod::new(retry.build()))
        };
        methods.with(&name, make, OfMethod::current)
    }
}

impl<Request, N, O> ChooseRetry<Request> for MethodRetries<N, O>
where
    N: NameMethod<Request>,
    O: Observe<RetryEvent>,
{
    type Observer = O;

    fn choose(&mut self, request: &Request) -> Option<CurrentRetry<O>> {
        let current = self.of_method(self.namer.name_method(request));
        (current.policy().enforcement() != Enforcement::Disabled).then_some(current)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_clone_keeps_its_policy_until_it_is_refreshed() {
        let policy = |most| RetryPolicy::failure().retries(most).build().unwrap();
        let mut one = OneRetry::new(Retry::builder(policy(2)).build());
        let other = one.clone();
        let retries = |retry: &OneRetry| retry.current().policy().retries();
        one.retry().policy().replace(policy(3));
        assert_eq!((retries(&one), retries(&other)), (2, 2));
        one.refresh();
        assert_eq!((retries(&one), retries(&other)), (3, 2));
    }
}
