//! Every setting of every policy: how it stands in a file, and the policy built by hand.

use std::{fmt::Debug, time::Duration};

use outrigger::{Format, PolicySet};
use outrigger_circuitbreak::{Abandoned, CircuitBreakerPolicy};
use outrigger_core::{Criticality, Enforcement, MethodRef};
use outrigger_loadbalance::{
    BalancePolicy, EjectionPolicy, Picker, ReportedPolicy, SlowStartPolicy, SubsetPolicy,
    WithoutKey, ZonePolicy,
};
use outrigger_ratelimit::{
    AdaptiveLimitPolicy, BeyondLimit, ClientThrottlePolicy, ConcurrencyLimitPolicy,
    ConnectionLimitPolicy, CutShort, LimitAlgorithm, RateLimitPolicy, ShedWaiting, WaitOrder,
};
use outrigger_retry::{
    Backoff, GrpcCodes, Jitter, QuantileDelay, RetryBudgetPolicy, RetryPolicy, TimeoutPolicy,
};
use serde::Serialize;
use serde_json::{Value, json, to_value};

pub(crate) const GET: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Get" };

/// One policy in a file.
pub(crate) struct Row {
    /// Where it stands: `defaults` or `server`.
    pub(crate) scope: &'static str,
    pub(crate) section: &'static str,
    /// What is stated.
    pub(crate) stated: Value,
    /// What came of it, written back.
    pub(crate) read: Value,
    /// The crate's own default, written.
    pub(crate) default: Value,
}

impl Row {
    /// The whole file.
    pub(crate) fn file(&self) -> String {
        json!({ self.scope: { self.section: self.stated } }).to_string()
    }
}

pub(crate) fn set(json: &str) -> PolicySet {
    PolicySet::parse("p.json", json, Format::Json).unwrap_or_else(|e| panic!("{e}\n{json}"))
}

/// Reads what is stated, and finds it equal to what was built by hand.
fn row<P: Serialize + PartialEq + Debug>(
    (scope, section): (&'static str, &'static str),
    stated: Value,
    read: impl Fn(&PolicySet) -> Option<P>,
    (by_hand, default): (P, P),
) -> Row {
    let default = to_value(default).expect("it can be written");
    let mut row = Row { scope, section, stated, read: Value::Null, default };
    let file = row.file();
    let policy = read(&set(&file)).unwrap_or_else(|| panic!("nothing came of {file}"));
    assert_eq!(policy, by_hand, "{file}");
    row.read = to_value(policy).expect("it can be written");
    row
}

macro_rules! rows {
    ($scope:literal, $section:ident, $read:expr, $default:expr; $($stated:expr => $by_hand:expr),+ $(,)?) => {
        vec![$(row(($scope, stringify!($section)), $stated, $read, ($by_hand, $default))),+]
    };
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Every setting of every policy, each in one row at least with another value than its default.
pub(crate) fn rows() -> Vec<Row> {
    let mut all = time_outs();
    all.extend(retries());
    all.extend(budgets());
    all.extend(breakers());
    all.extend(limits());
    all.extend(adaptive_limits());
    all.extend(limits_of_a_server());
    all.extend(balances());
    all.extend(criticality());
    all
}

fn time_outs() -> Vec<Row> {
    let by_hand = || {
        let policy = TimeoutPolicy::builder().enforcement(Enforcement::Shadow);
        policy.timeout(ms(70)).honour_request(false).build().expect("valid")
    };
    let stated = json!({"enforcement": "shadow", "timeout": "70ms", "honour_request": false});
    let default = TimeoutPolicy::default;
    let mut all = rows!("defaults", timeout, |set| set.method(GET).timeout().copied(), default();
        stated.clone() => by_hand());
    all.extend(
        rows!("defaults", attempt_timeout, |set| set.method(GET).attempt_timeout().copied(),
        default(); stated => by_hand()),
    );
    all
}

fn retries() -> Vec<Row> {
    let codes = GrpcCodes::from_names(["ABORTED", "UNAVAILABLE"]).expect("valid");
    let failure = || RetryPolicy::failure().idempotent(true);
    let quantile = QuantileDelay::of(0.97).min_samples(7).floor(ms(3)).ceiling(ms(900));
    let exponential = Backoff::exponential(ms(5), ms(80)).with_factor(3.0);
    let backoff =
        |backoff: Value| json!({"mode": "failure", "idempotent": true, "backoff": backoff});
    let jitter = |jitter: Value| {
        backoff(
            json!({"exponential": {"base": "5ms", "max": "80ms", "factor": 3.0, "jitter": jitter}}),
        )
    };
    let jittered =
        |jitter| failure().backoff(exponential.with_jitter(jitter)).build().expect("valid");
    rows!("defaults", retry, |set| set.method(GET).retry().copied(), RetryPolicy::default();
        json!({
            "mode": "failure", "enforcement": "disabled", "retries": 4, "idempotent": true,
            "retryable_status_codes": ["UNAVAILABLE", "ABORTED"], "unary": true,
            "retry_timeouts": false, "chain_stop": false, "max_duration": "3s",
            "max_pushback": "4s", "min_time_left": "5ms", "backoff": {"fixed": {"delay": "6ms"}}
        }) => failure()
            .enforcement(Enforcement::Disabled)
            .retries(4)
            .retryable_status_codes(codes)
            .unary(true)
            .retry_timeouts(false)
            .chain_stop(false)
            .max_duration(ms(3_000))
            .max_pushback(ms(4_000))
            .min_time_left(ms(5))
            .backoff(Backoff::Fixed { delay: ms(6) })
            .build()
            .expect("valid"),
        backoff(json!("none")) => failure().backoff(Backoff::None).build().expect("valid"),
        backoff(json!({"random": {"min": "6ms", "max": "8ms"}})) =>
            failure().backoff(Backoff::Random { min: ms(6), max: ms(8) }).build().expect("valid"),
        jitter(json!("none")) => jittered(Jitter::None),
        jitter(json!("full")) => jittered(Jitter::Full),
        jitter(json!("equal")) => jittered(Jitter::Equal),
        jitter(json!("decorrelated")) => jittered(Jitter::Decorrelated),
        jitter(json!({"spread": 0.3})) => jittered(Jitter::Spread(0.3)),
        json!({"mode": "backup", "idempotent": true, "backup_delay": {"fixed": "60ms"}}) =>
            RetryPolicy::backup(ms(60)).idempotent(true).build().expect("valid"),
        json!({"mode": "mixed", "idempotent": true, "backup_delay": {"quantile": {
            "quantile": 0.97, "min_samples": 7, "floor": "3ms", "ceiling": "900ms"
        }}}) => RetryPolicy::mixed(quantile).idempotent(true).build().expect("valid"),
    )
}

fn budgets() -> Vec<Row> {
    rows!("defaults", retry_budget, |set| set.service("shop.Cart").retry_budget().copied(),
        RetryBudgetPolicy::default();
        json!({"ratio": {"ratio": 0.2, "window": "7s", "reserve": 9}}) =>
            RetryBudgetPolicy::builder().ratio(0.2).window(ms(7_000)).reserve(9).build().expect("valid"),
        json!({"throttling": {"max_tokens": 12, "token_ratio": 0.25}}) =>
            RetryBudgetPolicy::throttling(12, 0.25).expect("valid"),
        json!("unlimited") => RetryBudgetPolicy::unlimited(),
    )
}

fn breakers() -> Vec<Row> {
    let builder = CircuitBreakerPolicy::builder;
    rows!("defaults", circuit_breaker, |set| set.method(GET).circuit_breaker().cloned(),
        CircuitBreakerPolicy::default();
        json!({
            "enforcement": "shadow", "time_window": "7s", "window_buckets": 70,
            "error_rate": {"rate": 0.4, "minimum_calls": 30}, "error_count": 40,
            "consecutive_failures": 6,
            "consecutive_failures_lasting": {"failures": 3, "duration": "2s"},
            "slow_calls": {"duration": "800ms", "rate": 0.6, "minimum_calls": 20},
            "cool_down": "3s", "cool_down_growth": 2.0, "max_cool_down": "50s",
            "cool_down_jitter": 0.25, "probe_interval": "300ms", "max_probes": 2,
            "successes_to_close": 4, "probe_limit": "9s", "abandoned": "slow"
        }) => builder()
            .enforcement(Enforcement::Shadow)
            .time_window(ms(7_000))
            .window_buckets(70)
            .error_rate(0.4, 30)
            .error_count(40)
            .consecutive_failures(6)
            .consecutive_failures_lasting(3, ms(2_000))
            .slow_calls(ms(800), 0.6, 20)
            .cool_down(ms(3_000))
            .cool_down_growth(2.0, ms(50_000))
            .cool_down_jitter(0.25)
            .probe_interval(ms(300))
            .max_probes(2)
            .successes_to_close(4)
            .probe_limit(ms(9_000))
            .abandoned(Abandoned::Slow)
            .build()
            .expect("valid"),
        json!({"abandoned": "ignored", "enforcement": "enforced"}) => CircuitBreakerPolicy::default(),
        json!({"count_window": 50, "abandoned": "failure"}) =>
            builder().count_window(50).abandoned(Abandoned::Failure).build().expect("valid"),
    )
    .into_iter()
    .chain([without_error_rate()])
    .collect()
}

/// A rule that is switched off keeps its numbers, so what was read is not what `no_error_rate` makes.
fn without_error_rate() -> Row {
    let stated = json!({"error_rate": {"enabled": false}});
    let set = set(&json!({"defaults": {"circuit_breaker": stated}}).to_string());
    let policy = set.method(GET).circuit_breaker().cloned().expect("stated");
    let all_failed = outrigger_circuitbreak::CircuitBreaker::new(policy.clone());
    for _ in 0..500 {
        all_failed.try_acquire().expect("no rule is left").record(outrigger_core::Outcome::Failure);
    }
    Row {
        scope: "defaults",
        section: "circuit_breaker",
        stated,
        read: to_value(policy).expect("valid"),
        default: to_value(CircuitBreakerPolicy::default()).expect("valid"),
    }
}

fn limits() -> Vec<Row> {
    let mut all = rows!("defaults", concurrency_limit,
        |set| set.method(GET).concurrency_limit().copied(), ConcurrencyLimitPolicy::default();
        concurrency() => concurrency_by_hand(),
        json!({"shed_waiting": {"mean_wait": {"threshold": "30ms"}}}) =>
            ConcurrencyLimitPolicy::builder()
                .shed_waiting(ShedWaiting::MeanWait { threshold: ms(30) })
                .build()
                .expect("valid"),
        json!({"shed_waiting": "off", "order": "fifo"}) => ConcurrencyLimitPolicy::default(),
    );
    all.extend(rows!("defaults", rate_limit, |set| set.method(GET).rate_limit().copied(),
        RateLimitPolicy::default(); rate() => rate_by_hand()));
    all.extend(
        rows!("defaults", client_throttle, |set| set.method(GET).client_throttle().copied(),
        ClientThrottlePolicy::default();
        json!({"enforcement": "shadow", "k": 1.5, "window": "30s", "min_requests": 9,
            "cut_short": "not_accepted"}) =>
            ClientThrottlePolicy::builder()
                .enforcement(Enforcement::Shadow)
                .k(1.5)
                .window(ms(30_000))
                .min_requests(9)
                .cut_short(CutShort::NotAccepted)
                .build()
                .expect("valid")),
    );
    all
}

fn concurrency() -> Value {
    json!({
        "enforcement": "shadow", "limit": 70, "max_waiting": 7, "max_wait": "90ms",
        "order": "newest_first_under_overload",
        "shed_waiting": {"co_del": {"target": "6ms", "interval": "110ms"}},
        "critical_reserve": 0.2, "retry_after": "2s"
    })
}

fn concurrency_by_hand() -> ConcurrencyLimitPolicy {
    ConcurrencyLimitPolicy::builder()
        .enforcement(Enforcement::Shadow)
        .limit(70)
        .max_waiting(7)
        .max_wait(ms(90))
        .order(WaitOrder::NewestFirstUnderOverload)
        .shed_waiting(ShedWaiting::CoDel { target: ms(6), interval: ms(110) })
        .critical_reserve(0.2)
        .retry_after(ms(2_000))
        .build()
        .expect("valid")
}

fn rate() -> Value {
    json!({"enforcement": "disabled", "rate": 600, "period": "1m", "burst": 5, "max_waiting": 3,
        "max_wait": "70ms"})
}

fn rate_by_hand() -> RateLimitPolicy {
    RateLimitPolicy::builder()
        .enforcement(Enforcement::Disabled)
        .rate(600)
        .period(ms(60_000))
        .burst(5)
        .max_waiting(3)
        .max_wait(ms(70))
        .build()
        .expect("valid")
}

fn adaptive(algorithm: &str) -> Value {
    json!({
        "enforcement": "shadow", "algorithm": algorithm, "initial_limit": 30, "min_limit": 3,
        "max_limit": 300, "min_window": "500ms", "max_window": "20s", "min_samples": 20,
        "cut_short": "not_accepted", "tolerated_drops": 0.04, "max_waiting": 4, "max_wait": "80ms", "critical_reserve": 0.3
    })
}

fn adaptive_by_hand(algorithm: LimitAlgorithm) -> AdaptiveLimitPolicy {
    AdaptiveLimitPolicy::builder()
        .enforcement(Enforcement::Shadow)
        .algorithm(algorithm)
        .initial_limit(30)
        .min_limit(3)
        .max_limit(300)
        .min_window(ms(500))
        .max_window(ms(20_000))
        .min_samples(20)
        .cut_short(CutShort::NotAccepted)
        .max_waiting(4)
        .max_wait(ms(80))
        .tolerated_drops(0.04)
        .critical_reserve(0.3)
        .build()
        .expect("valid")
}

fn adaptive_limits() -> Vec<Row> {
    let default = AdaptiveLimitPolicy::default;
    rows!("defaults", adaptive_limit, |set| set.method(GET).adaptive_limit().copied(), default();
        json!("vegas") => default(),
        json!("gradient2") =>
            AdaptiveLimitPolicy::builder().algorithm(LimitAlgorithm::Gradient2).build().expect("valid"),
        json!("aimd") =>
            AdaptiveLimitPolicy::builder().algorithm(LimitAlgorithm::Aimd).build().expect("valid"),
        json!({"cut_short": "ignored"}) => default(),
        adaptive("vegas") => adaptive_by_hand(LimitAlgorithm::Vegas),
        adaptive("gradient2") => adaptive_by_hand(LimitAlgorithm::Gradient2),
        adaptive("aimd") => adaptive_by_hand(LimitAlgorithm::Aimd),
    )
}

fn limits_of_a_server() -> Vec<Row> {
    let connections = |limit, beyond| ConnectionLimitPolicy::new(limit, beyond).expect("valid");
    let mut all = rows!("server", connection_limit,
        |set| set.server().connection_limit().copied(), connections(1, BeyondLimit::Refuse);
        json!({"enforcement": "shadow", "limit": 7, "beyond": "wait"}) =>
            connections(7, BeyondLimit::Wait).with_enforcement(Enforcement::Shadow),
        json!({"limit": 7, "beyond": "refuse"}) => connections(7, BeyondLimit::Refuse),
    );
    all.extend(rows!("server", concurrency_limit, |set| set.server().concurrency_limit().copied(),
        ConcurrencyLimitPolicy::default(); concurrency() => concurrency_by_hand()));
    all.extend(rows!("server", adaptive_limit, |set| set.server().adaptive_limit().copied(),
        AdaptiveLimitPolicy::default(); adaptive("aimd") => adaptive_by_hand(LimitAlgorithm::Aimd)));
    all.extend(rows!("server", rate_limit, |set| set.server().rate_limit().copied(),
        RateLimitPolicy::default(); rate() => rate_by_hand()));
    all
}

fn ejection() -> Value {
    json!({
        "consecutive_failures": 3, "failing_for": "45s", "error_rate": 0.6, "error_rate_volume": 60, "deviation": 1.7,
        "deviation_volume": 70, "latency": 3.5, "latency_volume": 80, "min_endpoints": 4,
        "interval": "11s", "base_time": "12s", "max_time": "130s", "jitter": 0.2,
        "max_ejected": 0.3, "may_eject_last": true, "panic_threshold": 0.45,
        "probation_successes": 4
    })
}

fn ejection_by_hand() -> EjectionPolicy {
    EjectionPolicy::builder()
        .consecutive_failures(3)
        .failing_for(Some(ms(45_000)))
        .error_rate(0.6)
        .error_rate_volume(60)
        .deviation(1.7)
        .deviation_volume(70)
        .latency(3.5)
        .latency_volume(80)
        .min_endpoints(4)
        .interval(ms(11_000))
        .base_time(ms(12_000))
        .max_time(ms(130_000))
        .jitter(0.2)
        .max_ejected(0.3)
        .may_eject_last(true)
        .panic_threshold(0.45)
        .probation_successes(4)
        .build()
        .expect("valid")
}

fn balances() -> Vec<Row> {
    let read = |set: &PolicySet| set.service("shop.Cart").balance().cloned();
    let slow_start = SlowStartPolicy::new(ms(9_000)).aggression(2.0).expect("valid");
    let mut all = rows!("defaults", balance, read, BalancePolicy::default();
        json!({
            "enforcement": "shadow", "picker": {"peak_ewma": {"decay": "4s", "failure_penalty": "3s"}},
            "failover_picks": 1, "connect_timeout": "70ms", "ejection": ejection(),
            "slow_start": {"window": "9s", "aggression": 2.0, "min_share": 0.2},
            "zones": {"prefer": "a", "over_provisioning": 1.2},
            "subset": {"by_index": {"index": 3, "size": 20}}, "seed": 7
        }) => BalancePolicy::builder()
            .enforcement(Enforcement::Shadow)
            .picker(Picker::PeakEwma { decay: ms(4_000), failure_penalty: ms(3_000) })
            .failover_picks(1)
            .connect_timeout(ms(70))
            .ejection(ejection_by_hand())
            .slow_start(slow_start.min_share(0.2).expect("valid"))
            .zones(ZonePolicy::prefer("a").over_provisioning(1.2).expect("valid"))
            .subset(SubsetPolicy::by_index(3, 20))
            .seed(7)
            .build()
            .expect("valid"),
        json!({"subset": {"by_name": {"name": "b", "size": 21}}, "ejection": null}) =>
            BalancePolicy::builder()
                .subset(SubsetPolicy::by_name("b", 21))
                .ejection(None)
                .build()
                .expect("valid"),
    );
    for (stated, picker) in pickers() {
        let by_hand = BalancePolicy::builder().picker(picker).build().expect("valid");
        all.extend(rows!("defaults", balance, read, BalancePolicy::default();
            json!({"picker": stated}) => by_hand));
    }
    all
}

fn pickers() -> Vec<(Value, Picker)> {
    let reported =
        ReportedPolicy { blackout: ms(2_000), expiration: ms(50_000), error_penalty: 1.5 };
    let without_key = WithoutKey::Refuse;
    vec![
        (json!({"weighted_random": {}}), Picker::WeightedRandom),
        (json!({"round_robin": {}}), Picker::RoundRobin),
        (json!({"smooth_weighted_round_robin": {}}), Picker::SmoothWeightedRoundRobin),
        (
            json!({"least_pending": {"failure_penalty": "2s"}}),
            Picker::LeastPending { failure_penalty: ms(2_000) },
        ),
        (
            json!({"reported": {"blackout": "2s", "expiration": "50s", "error_penalty": 1.5}}),
            Picker::Reported(reported),
        ),
        (
            json!({"consistent_hash": {"points_per_weight": 160, "load_bound": 1.5, "without_key": "refuse"}}),
            Picker::ConsistentHash { points_per_weight: 160, load_bound: Some(1.5), without_key },
        ),
        (
            json!({"maglev": {"table_size": 251, "without_key": "refuse"}}),
            Picker::Maglev { table_size: 251, without_key },
        ),
        (json!({"maglev": {"without_key": "random"}}), Picker::maglev()),
        (json!({"pick_first": {"shuffle": true}}), Picker::PickFirst { shuffle: true }),
        (json!("round_robin"), Picker::RoundRobin),
    ]
}

fn criticality() -> Vec<Row> {
    rows!("defaults", criticality, |set| set.method(GET).criticality().copied(),
        Criticality::default();
        json!("sheddable") => Criticality::Sheddable,
        json!("sheddable_plus") => Criticality::SheddablePlus,
        json!("critical") => Criticality::Critical,
        json!("critical_plus") => Criticality::CriticalPlus,
    )
}
