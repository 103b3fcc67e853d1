use std::{sync::Arc, time::Duration};

use outrigger_core::{Live, LiveReader, Observe, PerMethod};
use tower_layer::Layer;

use super::{
    FromRequest, InContext, NoDeadline, PerMethodTimeout, TimeoutEvent, TimeoutPolicy,
    TimeoutService,
};

/// Cuts calls short that run too long.
///
/// Outside a retry it limits the whole call, inside it each attempt: the same layer, put where it
/// is wanted. Its services share the policy and hold no other state.
///
/// An answer that is there when the time is over is given; an error, or an answer that says the same
/// ([`ReadTimeout`](super::ReadTimeout)), is taken for the time-out, since whoever was told the
/// deadline has a timer of his own.
///
/// | parameter | what it decides | default |
/// | --- | --- | --- |
/// | `P` | which policy a request has ([`ChooseTimeout`](super::ChooseTimeout)) | one for all |
/// | `D` | where a deadline travels ([`CarryDeadline`](super::CarryDeadline)) | nowhere |
/// | `O` | who is told ([`Observe`]) | nobody |
#[derive(Clone, Debug)]
pub struct TimeoutLayer<P = LiveReader<TimeoutPolicy>, D = NoDeadline, O = ()> {
    policies: P,
    carrier: D,
    observer: O,
}

impl TimeoutLayer {
    /// One policy for all requests.
    #[must_use]
    pub fn new(policy: impl Into<Live<TimeoutPolicy>>) -> Self {
        Self { policies: policy.into().reader(), carrier: NoDeadline, observer: () }
    }

    /// Lets a call run for `timeout`.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self::new(TimeoutPolicy::after(timeout))
    }

    /// Only honours the deadline that comes with a request.
    #[must_use]
    pub fn from_deadline() -> Self {
        Self::new(TimeoutPolicy::default())
    }
}

impl<N> TimeoutLayer<PerMethodTimeout<N>> {
    /// A policy for each method, as `namer` names it.
    #[must_use]
    pub fn per_method(policies: PerMethod<Live<TimeoutPolicy>>, namer: N) -> Self {
        let policies = PerMethodTimeout { namer, policies: Arc::new(policies) };
        Self { policies, carrier: NoDeadline, observer: () }
    }
}

impl<P> TimeoutLayer<P> {
    /// Times as `policies` chooses for each request ([`ChooseTimeout`](super::ChooseTimeout)).
    #[must_use]
    pub const fn from_chooser(policies: P) -> Self {
        Self { policies, carrier: NoDeadline, observer: () }
    }
}

impl<D, O> TimeoutLayer<LiveReader<TimeoutPolicy>, D, O> {
    /// Takes the time from each request by `read`; the policy's where that gives `None`.
    #[must_use]
    pub fn from_request<F>(self, read: F) -> TimeoutLayer<FromRequest<F>, D, O> {
        let Self { policies, carrier, observer } = self;
        TimeoutLayer { policies: FromRequest { read, policy: policies }, carrier, observer }
    }

    /// The policy, to read and to replace.
    #[must_use]
    pub const fn handle(&self) -> &Live<TimeoutPolicy> {
        self.policies.live()
    }
}

impl<P, D, O> TimeoutLayer<P, D, O> {
    /// Lets the deadline travel by `carrier`.
    #[must_use]
    pub fn carry<E>(self, carrier: E) -> TimeoutLayer<P, E, O> {
        let Self { policies, observer, .. } = self;
        TimeoutLayer { policies, carrier, observer }
    }

    /// Lets the deadline travel in the context that `carrier` knows to find.
    #[must_use]
    pub fn carry_context<X>(self, carrier: X) -> TimeoutLayer<P, InContext<X>, O> {
        self.carry(InContext(carrier))
    }

    /// The deadline travels in the request's extensions.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(self) -> TimeoutLayer<P, InContext<outrigger_core::InExtensions>, O> {
        self.carry_context(outrigger_core::InExtensions)
    }

    /// The deadline travels in the request's extensions and as `grpc-timeout`.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn grpc(self) -> TimeoutLayer<P, super::GrpcDeadline, O> {
        self.carry(super::GrpcDeadline)
    }

    /// Tells `observer` what the time-out does.
    #[must_use]
    pub fn observe<Q: Observe<TimeoutEvent>>(self, observer: Q) -> TimeoutLayer<P, D, Q> {
        let Self { policies, carrier, .. } = self;
        TimeoutLayer { policies, carrier, observer }
    }
}

impl<S, P: Clone, D: Clone, O: Clone> Layer<S> for TimeoutLayer<P, D, O> {
    type Service = TimeoutService<S, P, D, O>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { policies, carrier, observer } = self.clone();
        TimeoutService { inner, policies, carrier, observer }
    }
}
