//! tower's own layers.

use std::{
    future::{Ready, ready},
    num::NonZeroU64,
    sync::Arc,
    time::Duration,
};

use tower::{
    BoxError, Layer, Service, ServiceBuilder,
    balance::p2c::Balance,
    buffer::Buffer,
    discover::ServiceList,
    hedge::Hedge,
    limit::{ConcurrencyLimitLayer, RateLimit, rate::Rate},
    load::{CompleteOnResponse, PeakEwma, PendingRequests},
    load_shed::LoadShedLayer,
    retry::{
        Policy, RetryLayer,
        budget::{Budget, TpsBudget},
    },
    timeout::TimeoutLayer,
};

use super::{HOUR, PLENTY};
use crate::kit::{Calls, Case, Cloned, Inner, Single, inner};

pub(super) fn cases() -> Vec<Case> {
    let places = ConcurrencyLimitLayer::new(PLENTY as usize);
    let none = ServiceBuilder::new().layer(LoadShedLayer::new());
    let none = none.layer(ConcurrencyLimitLayer::new(0)).service(inner());
    vec![
        case("concurrency_limit", Cloned(places.layer(inner()))),
        case("concurrency_refusal", Cloned(none)),
        case("rate_limit", Single(rate())),
        case("rate_limit_buffer", Cloned(Buffer::new(rate(), 1_024))),
        case("timeout", Cloned(TimeoutLayer::new(HOUR).layer(inner()))),
        case("retry_first_ok", Cloned(RetryLayer::new(Twice::default()).layer(inner()))),
        case("backup_armed", Single(Hedge::new(inner(), Always, 10, 0.95, HOUR))),
        case("balance_p2c_10", Single(pending(10))),
        case("balance_p2c_10_buffer", Cloned(Buffer::new(pending(10), 1_024))),
        case("balance_p2c_ewma_10", Single(ewma(10))),
        case("client_stack_no_observe", Cloned(stack(inner()))),
    ]
}

fn case(name: &'static str, calls: impl Calls + 'static) -> Case {
    Case::new(name, "tower", calls)
}

fn rate() -> RateLimit<Inner> {
    let per_second = NonZeroU64::MAX.get() / 2;
    RateLimit::new(inner(), Rate::new(per_second, Duration::from_secs(1)))
}

/// Retries once what failed, under tower's budget.
#[derive(Clone)]
struct Twice(Arc<TpsBudget>);

impl Default for Twice {
    fn default() -> Self {
        Self(Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.1)))
    }
}

impl<R, E> Policy<u64, R, E> for Twice {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<R, E>) -> Option<Ready<()>> {
        if result.is_ok() {
            self.0.deposit();
            return None;
        }
        self.0.withdraw().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

#[derive(Clone)]
struct Always;

impl tower::hedge::Policy<u64> for Always {
    fn clone_request(&self, request: &u64) -> Option<u64> {
        Some(*request)
    }

    fn can_retry(&self, _: &u64) -> bool {
        true
    }
}

pub(crate) fn pending(
    endpoints: usize,
) -> impl Service<u64, Response = u64, Error = BoxError, Future: Send> + Send + 'static {
    let loaded = |_| PendingRequests::new(inner(), CompleteOnResponse::default());
    Balance::new(ServiceList::new((0..endpoints).map(loaded)))
}

fn ewma(endpoints: usize) -> impl Service<u64, Response = u64, Error = BoxError> + Send {
    let decay = Duration::from_secs(10).as_secs_f64() * 1e9;
    let rtt = Duration::from_millis(1);
    let loaded = move |_| PeakEwma::new(inner(), rtt, decay, CompleteOnResponse::default());
    Balance::new(ServiceList::new((0..endpoints).map(loaded)))
}

/// A limit, retries under a budget and a time-out; tower has no breaker.
pub(crate) fn stack<S>(
    service: S,
) -> impl Service<u64, Response = S::Response, Error = BoxError, Future: Send> + Clone + Send + 'static
where
    S: Service<u64, Response: Send, Error: Into<BoxError> + Send, Future: Send>
        + Clone
        + Send
        + 'static,
{
    ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(PLENTY as usize))
        .layer(RetryLayer::new(Twice::default()))
        .layer(TimeoutLayer::new(HOUR))
        .service(service)
}
