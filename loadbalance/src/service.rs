use std::{
    fmt,
    task::{Context, Poll, Waker},
};

use outrigger_core::{
    CarryContext, Classify, ErrorsAreFailures, NoContext, OnResponse, Rejection, TrackCompletion,
};
use tower_service::Service;

use crate::{
    Balance, HashBy, NoKey,
    future::{BalanceFuture, Connecting},
    held::HeldCall,
    snapshot::Asking,
};

/// Sends each call to one endpoint of a [`Balance`].
///
/// Always ready: an endpoint is picked in `call`, its service cloned, and the request given to it
/// when it is ready. If it does not become ready, nothing was sent, and the call goes on to
/// another endpoint.
///
/// | parameter | decides | default |
/// | --- | --- | --- |
/// | `C` | what a call turned out to be: [`classify`](Self::classify) | [`ErrorsAreFailures`] |
/// | `T` | when a call is over: [`complete_on`](Self::complete_on) | [`OnResponse`] |
/// | `X` | where the attempt context travels: [`carry`](Self::carry) | [`NoContext`] |
/// | `K` | what a request is hashed by: [`hash_by`](Self::hash_by) | [`NoKey`] |
pub struct BalanceService<S, C = ErrorsAreFailures, T = OnResponse, X = NoContext, K = NoKey> {
    balance: Balance<S>,
    classify: C,
    complete_on: T,
    carry: X,
    hash_by: K,
    rng: fastrand::Rng,
}

impl<S> BalanceService<S> {
    /// A service over the endpoints of `balance`.
    #[must_use]
    pub fn new(balance: Balance<S>) -> Self {
        let rng = balance.shared.deal();
        Self {
            balance,
            classify: ErrorsAreFailures,
            complete_on: OnResponse,
            carry: NoContext,
            hash_by: NoKey,
            rng,
        }
    }
}

impl<S, C, T, X, K> BalanceService<S, C, T, X, K> {
    /// Judges calls with `classify`.
    #[must_use]
    pub fn classify<C2>(self, classify: C2) -> BalanceService<S, C2, T, X, K> {
        let Self { balance, complete_on, carry, hash_by, rng, .. } = self;
        BalanceService { balance, classify, complete_on, carry, hash_by, rng }
    }

    /// Decides when a call is over.
    #[must_use]
    pub fn complete_on<T2>(self, complete_on: T2) -> BalanceService<S, C, T2, X, K> {
        let Self { balance, classify, carry, hash_by, rng, .. } = self;
        BalanceService { balance, classify, complete_on, carry, hash_by, rng }
    }

    /// Says where the [`AttemptContext`](outrigger_core::AttemptContext) travels: endpoints that
    /// earlier attempts went to are avoided.
    #[must_use]
    pub fn carry<X2>(self, carry: X2) -> BalanceService<S, C, T, X2, K> {
        let Self { balance, classify, complete_on, hash_by, rng, .. } = self;
        BalanceService { balance, classify, complete_on, carry, hash_by, rng }
    }

    /// Says what a request is hashed by, for the hashing pickers.
    #[must_use]
    pub fn hash_by<K2>(self, hash_by: K2) -> BalanceService<S, C, T, X, K2> {
        let Self { balance, classify, complete_on, carry, rng, .. } = self;
        BalanceService { balance, classify, complete_on, carry, hash_by, rng }
    }

    /// The endpoints.
    #[must_use]
    pub const fn handle(&self) -> &Balance<S> {
        &self.balance
    }
}

#[cfg(feature = "http")]
impl<S, C, T, X, K> BalanceService<S, C, T, X, K> {
    /// For HTTP: judges by status, follows the body to its end, reads the attempt context from the
    /// request's extensions.
    #[must_use]
    pub fn http(
        self,
    ) -> BalanceService<
        S,
        outrigger_core::HttpStatus,
        outrigger_core::OnBodyEnd,
        outrigger_core::InExtensions,
        K,
    > {
        self.classify(outrigger_core::HttpStatus)
            .complete_on(outrigger_core::OnBodyEnd)
            .carry(outrigger_core::InExtensions)
    }

    /// For gRPC: judges by `grpc-status`, follows the body to its trailers, reads the attempt
    /// context from the request's extensions.
    #[must_use]
    pub fn grpc(
        self,
    ) -> BalanceService<
        S,
        outrigger_core::GrpcStatus,
        outrigger_core::OnBodyEnd,
        outrigger_core::InExtensions,
        K,
    > {
        self.classify(outrigger_core::GrpcStatus)
            .complete_on(outrigger_core::OnBodyEnd)
            .carry(outrigger_core::InExtensions)
    }
}

impl<S, C, T, X, K, Request> Service<Request> for BalanceService<S, C, T, X, K>
where
    S: Service<Request> + Clone,
    S::Error: From<Rejection>,
    C: Classify<S::Response, S::Error> + Clone,
    T: TrackCompletion<S::Response, HeldCall<C, S::Response, S::Error>> + Clone,
    X: CarryContext<Request> + Clone,
    K: HashBy<Request>,
{
    type Response = T::Response;
    type Error = S::Error;
    type Future = BalanceFuture<S, Request, C, T, X>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Which endpoint's readiness matters is not known before the pick.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut asking = Asking {
            rng: &mut self.rng,
            key: None,
            tried: self.carry.context(&request).and_then(|context| context.tried.as_ref()),
            unreachable: &[],
        };
        let find_key = || self.hash_by.hash_key(&request);
        let (mut service, call) = match self.balance.shared.begin(&mut asking, find_key) {
            Ok(begun) => begun,
            Err(nobody) => return BalanceFuture::refused(nobody.into(), self.complete_on.clone()),
        };
        let key = asking.key;
        let mut held = HeldCall::new(call, self.classify.clone());
        // Most endpoints are ready at once, and then nothing is kept for a second pick. The waker
        // is replaced when the future is polled.
        let mut cx = Context::from_waker(Waker::noop());
        let first_poll = service.poll_ready(&mut cx);
        if matches!(first_poll, Poll::Ready(Ok(()))) {
            if let Some(tried) =
                self.carry.context(&request).and_then(|context| context.tried.as_ref())
            {
                tried.note(held.endpoint_id());
            }
            let future = service.call(request);
            return BalanceFuture::calling(future, held, self.complete_on.clone());
        }
        held.show();
        let connecting = Connecting {
            shared: std::sync::Arc::clone(&self.balance.shared),
            service,
            held: Some(held),
            request: Some(request),
            carry: self.carry.clone(),
            classify: self.classify.clone(),
            rng: self.rng.fork(),
            key,
            unreachable: Vec::new(),
            failed: match first_poll {
                Poll::Ready(Err(error)) => Some(error),
                _ => None,
            },
        };
        BalanceFuture::connecting(connecting, self.complete_on.clone())
    }
}

/// A clone has random numbers of its own.
impl<S, C: Clone, T: Clone, X: Clone, K: Clone> Clone for BalanceService<S, C, T, X, K> {
    fn clone(&self) -> Self {
        let rng = self.balance.shared.deal();
        Self {
            balance: self.balance.clone(),
            classify: self.classify.clone(),
            complete_on: self.complete_on.clone(),
            carry: self.carry.clone(),
            hash_by: self.hash_by.clone(),
            rng,
        }
    }
}

impl<S> From<Balance<S>> for BalanceService<S> {
    fn from(balance: Balance<S>) -> Self {
        Self::new(balance)
    }
}

impl<S, C, T, X, K> fmt::Debug for BalanceService<S, C, T, X, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceService").field("balance", &self.balance).finish_non_exhaustive()
    }
}
