//! Our layers, each alone and together.

use std::{hint::black_box, time::Duration};

use outrigger::{Format, Governance, ObserveGovernance, PolicySet};
use outrigger_circuitbreak::{
    CircuitBreaker, CircuitBreakerLayer, CircuitBreakerPolicy, CircuitBreakerPolicyBuilder,
};
use outrigger_core::{InvalidPolicy, MethodRef, Outcome};
use outrigger_loadbalance::{
    Balance, BalancePolicy, BalanceService, Endpoint, HashKey, Picker, WithoutKey,
};
use outrigger_observability::{FacadeMeter, GovernanceMetrics, Named, ObserveLayer};
use outrigger_ratelimit::{
    ConcurrencyLimitLayer, ConcurrencyLimitPolicy, RateLimitLayer, RateLimitPolicy,
};
use outrigger_retry::{QuantileDelay, RetryLayer, RetryPolicy, TimeoutLayer};
use tower::{Layer, Service, ServiceBuilder};

use super::{HOUR, PLENTY, disabled};
use crate::{
    kit::{Calls, Case, Cloned, Fault, Inner, Plain, inner, mixed},
    lookup::{GET, all_disabled, all_policies},
};

const OURS: &str = "outrigger";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = acting();
    cases.extend(disabled::cases());
    cases
}

fn acting() -> Vec<Case> {
    let slow = policy().slow_calls(HOUR, 0.5, 100);
    let random = Picker::WeightedRandom;
    vec![
        case("breaker_closed", Cloned(breaker(policy()).layer(inner()))),
        case("breaker_closed_latency", Cloned(breaker(slow).layer(inner()))),
        case("breaker_refusal", Cloned(open_breaker().layer(inner()))),
        case("concurrency_limit", Cloned(concurrency(PLENTY).layer(inner()))),
        case("concurrency_refusal", Cloned(full())),
        case("rate_limit", Cloned(rate(1_000_000, Duration::from_secs(1), u32::MAX))),
        case("rate_refusal", Cloned(used_up())),
        case("timeout", Cloned(TimeoutLayer::after(HOUR).layer(inner()))),
        case("retry_first_ok", Cloned(retry().layer(inner()))),
        case("backup_armed", Cloned(backup(HOUR).layer(inner()))),
        case("backup_armed_quantile", Cloned(backup_quantile().layer(inner()))),
        case("balance_weighted_random_10", balanced(10, random.clone())),
        case("balance_weighted_random_10000", balanced(10_000, random)),
        case("balance_p2c_10", balanced(10, Picker::least_pending())),
        case("balance_p2c_ewma_10", balanced(10, Picker::peak_ewma())),
        case("ring_lookup_1000", lookup(1_000, ring(160))),
        case("ring_pick_1000", pick(1_000, ring(160))),
        case("maglev_lookup_1000", lookup(1_000, Picker::maglev())),
        case("maglev_pick_1000", pick(1_000, Picker::maglev())),
        case("client_stack_no_observe", Cloned(client_stack())),
        case("client_stack_composed_no_observe", Cloned(composed(&Governance::new(policies())))),
        case("stack_disabled", Cloned(composed(&Governance::new(all_disabled())))),
        case("stack_none", Cloned(composed(&Governance::new(PolicySet::default())))),
        case("stack_all", Cloned(composed(&Governance::new(all_policies())))),
        case("policy_lookup", looked_up()),
        case("policy_lookup_kept", looked_up_to_keep()),
    ]
}

/// Finds what governs a method, as a stack does.
fn looked_up() -> impl Calls {
    let governance = Governance::new(all_policies());
    Plain(move |_| governance.with_method(black_box(GET), |state| _ = black_box(state)))
}

/// Takes a share of its own in what governs a method, and lets it go.
fn looked_up_to_keep() -> impl Calls {
    let governance = Governance::new(all_policies());
    Plain(move |_| drop(black_box(governance.method(black_box(GET)))))
}

/// What records metrics, with the recorder that is installed.
pub(crate) fn metered() -> Vec<Case> {
    let told = || GovernanceMetrics::new(FacadeMeter::new());
    let stack = ServiceBuilder::new()
        .layer(observe())
        .layer(concurrency(PLENTY).observe(told()))
        .layer(retry().observe(told()))
        .layer(breaker(policy()).observe(told()))
        .layer(TimeoutLayer::after(HOUR).observe(told()))
        .service(inner());
    let composed = composed(&Governance::with_observer(policies(), told()));
    vec![
        case("observe", Cloned(observe().layer(inner()))),
        case("client_stack", Cloned(stack)),
        case("client_stack_composed", Cloned(observe().layer(composed))),
    ]
}

pub(super) fn case(name: &'static str, calls: impl Calls + 'static) -> Case {
    Case::new(name, OURS, calls)
}

/// Policies of benchmarks are in order.
fn valid<T>(built: Result<T, InvalidPolicy>) -> T {
    built.expect("the settings are in order")
}

/// A time window that loses nothing while it is measured.
fn policy() -> CircuitBreakerPolicyBuilder {
    CircuitBreakerPolicy::builder().time_window(HOUR)
}

fn breaker(policy: CircuitBreakerPolicyBuilder) -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(valid(policy.build()))
}

fn open_breaker() -> CircuitBreakerLayer {
    let policy = valid(policy().consecutive_failures(1).cool_down(HOUR).build());
    let breaker = CircuitBreaker::new(policy);
    breaker.try_acquire().expect("closed").record(Outcome::Failure);
    CircuitBreakerLayer::from_handle(breaker)
}

fn concurrency(limit: u32) -> ConcurrencyLimitLayer {
    ConcurrencyLimitLayer::new(valid(ConcurrencyLimitPolicy::builder().limit(limit).build()))
}

/// All its places are taken for good.
fn full() -> impl Service<u64, Response = u64, Error = Fault> + Clone + Send + 'static {
    let layer = concurrency(1);
    std::mem::forget(layer.handle().try_acquire());
    layer.layer(inner())
}

fn rate(
    tokens: u32,
    period: Duration,
    burst: u32,
) -> impl Service<u64, Response = u64, Error = Fault> + Clone + Send + 'static {
    let policy = RateLimitPolicy::builder().rate(tokens).period(period).burst(burst);
    RateLimitLayer::new(valid(policy.build())).layer(inner())
}

/// Its one token is gone.
fn used_up() -> impl Service<u64, Response = u64, Error = Fault> + Clone + Send + 'static {
    let policy = RateLimitPolicy::builder().rate(1).period(HOUR).burst(1);
    let layer = RateLimitLayer::new(valid(policy.build()));
    layer.handle().try_acquire(1).expect("the first token");
    layer.layer(inner())
}

fn retry() -> RetryLayer {
    RetryLayer::new(valid(RetryPolicy::failure().build()))
}

fn backup(delay: Duration) -> RetryLayer {
    RetryLayer::new(valid(RetryPolicy::backup(delay).idempotent(true).build()))
}

fn backup_quantile() -> RetryLayer {
    RetryLayer::new(valid(RetryPolicy::backup(QuantileDelay::of(0.95)).idempotent(true).build()))
}

fn balance(endpoints: usize, picker: Picker) -> Balance<Inner> {
    let balance = Balance::new(valid(BalancePolicy::builder().picker(picker).seed(1).build()));
    balance.replace((0..endpoints).map(|at| Endpoint::new(format!("host-{at}"), inner())));
    balance
}

fn balanced(endpoints: usize, picker: Picker) -> Cloned<BalanceService<Inner>> {
    Cloned(BalanceService::new(balance(endpoints, picker)))
}

const fn ring(points_per_weight: u32) -> Picker {
    Picker::ConsistentHash { points_per_weight, load_bound: None, without_key: WithoutKey::Random }
}

/// Looks up whose a key is, as the peers do; begins no call.
fn lookup(endpoints: usize, picker: Picker) -> impl Calls {
    let balance = balance(endpoints, picker);
    let mut number = 0;
    Plain(move |_| {
        number += 1;
        black_box(balance.owner_of(HashKey::of(mixed(number).to_le_bytes())));
    })
}

/// Picks by key, with all that a pick does: it counts the call and gives a service out.
fn pick(endpoints: usize, picker: Picker) -> impl Calls {
    let balance = balance(endpoints, picker);
    let mut number = 0;
    Plain(move |_| {
        number += 1;
        if let Ok(picked) = balance.pick_by(HashKey::of(mixed(number).to_le_bytes())) {
            picked.record(Outcome::Success);
        }
    })
}

/// A limit, retries under a budget, a breaker and a time-out.
fn client_stack() -> impl Service<u64, Response = u64, Error = Fault> + Clone + Send + 'static {
    ServiceBuilder::new()
        .layer(concurrency(PLENTY))
        .layer(retry())
        .layer(breaker(policy()))
        .layer(TimeoutLayer::after(HOUR))
        .service(inner())
}

type Namer = fn(&u64) -> Option<MethodRef<'_>>;

fn observe() -> ObserveLayer<Named<outrigger_observability::Plain, Namer>> {
    ObserveLayer::client().meter(FacadeMeter::new()).name_methods(name as Namer)
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a namer")]
fn name(_call: &u64) -> Option<MethodRef<'_>> {
    Some(MethodRef { service: "shop.Orders", method: "Place" })
}

/// The layers of `client_stack`, as a policy file says them.
fn policies() -> PolicySet {
    const TEXT: &str = "
defaults:
  attempt_timeout: 1h
  concurrency_limit: 1000000
  circuit_breaker: {}
  retry: {mode: failure}
";
    PolicySet::parse("policies.yaml", TEXT, Format::Yaml).expect("the settings are in order")
}

fn composed<O: ObserveGovernance + Send + Sync + 'static>(
    governance: &Governance<O>,
) -> impl Service<u64, Response = u64, Error = Fault> + Clone + Send + use<O> {
    governance.client(name).layer(inner())
}
