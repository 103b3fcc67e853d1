//! Peers that bring one thing each.

use std::{
    future::{Ready, ready},
    hint::black_box,
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use failsafe::CircuitBreaker as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use seatbelt::{
    RecoveryInfo, ResilienceContext, breaker::Breaker, hedging::Hedging, retry::Retry,
    timeout::Timeout,
};
use tonic::body::Body;
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_governor::{
    GovernorLayer, governor::GovernorConfigBuilder, key_extractor::GlobalKeyExtractor,
};

use super::HOUR;
use crate::kit::{Calls, Case, Clock, Cloned, Fault, Plain, failing, inner, mixed, runtime};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = seatbelt();
    cases.extend([
        Case::new("breaker_closed", "recloser", recloser(false)),
        Case::new("breaker_refusal", "recloser", recloser(true)),
        Case::new("breaker_closed", "failsafe", failsafe(false)),
        Case::new("breaker_refusal", "failsafe", failsafe(true)),
        Case::new("rate_limit", "governor", governor(false)),
        Case::new("rate_refusal", "governor", governor(true)),
        Case::new("rate_limit_std_clock", "governor", governor_by_std_clock()),
        Case::new(
            "clock_read",
            "bare",
            Plain(|_| {
                black_box(Clock::now());
            }),
        ),
        Case::new("bare_http", "bare", http()),
        Case::new("rate_limit", "tower_governor", tower_governor(false)),
        Case::new("rate_refusal", "tower_governor", tower_governor(true)),
        Case::new("ring_lookup_1000", "hashring", hashring(1_000)),
        Case::new("ring_lookup_1000", "pingora", ketama(1_000)),
    ]);
    cases
}

fn recloser(is_open: bool) -> impl Calls {
    let breaker = recloser::Recloser::custom().closed_len(100).open_wait(HOUR).build();
    if is_open {
        (0..200).for_each(|_| drop(breaker.call(|| Err::<(), _>(()))));
    }
    let breaker = Arc::new(breaker);
    Plain(move |number| {
        black_box(breaker.call(|| Ok::<_, ()>(number)).is_ok());
    })
}

fn failsafe(is_open: bool) -> impl Calls {
    let backoff = failsafe::backoff::constant(HOUR);
    let window = Duration::from_secs(10);
    let rule = failsafe::failure_policy::success_rate_over_time_window(0.5, 200, window, backoff);
    let breaker = failsafe::Config::new().failure_policy(rule).build();
    if is_open {
        (0..400).for_each(|_| drop(breaker.call(|| Err::<(), _>(()))));
    }
    Plain(move |number| {
        black_box(breaker.call(|| Ok::<_, ()>(number)).is_ok());
    })
}

fn governor(is_used_up: bool) -> impl Calls {
    let quota = if is_used_up {
        Quota::with_period(HOUR).expect("longer than zero")
    } else {
        Quota::per_second(NonZeroU32::new(1_000_000).expect("not 0")).allow_burst(NonZeroU32::MAX)
    };
    let limiter = Arc::new(DefaultDirectRateLimiter::direct(quota));
    black_box(limiter.check().is_ok());
    Plain(move |_| {
        black_box(limiter.check().is_ok());
    })
}

/// With the clock that ours has. governor's own reads the processor's counter.
fn governor_by_std_clock() -> impl Calls {
    let quota = Quota::per_second(NonZeroU32::new(1_000_000).expect("not 0"));
    let quota = quota.allow_burst(NonZeroU32::MAX);
    let clock = governor::clock::MonotonicClock;
    let limiter = Arc::new(RateLimiter::direct_with_clock(quota, clock));
    Plain(move |_| {
        black_box(limiter.check().is_ok());
    })
}

fn request(_number: u64) -> http::Request<()> {
    http::Request::new(())
}

fn respond(_request: http::Request<()>) -> Ready<Result<http::Response<Body>, Fault>> {
    ready(Ok(http::Response::new(Body::empty())))
}

/// What is below `tower_governor`: it needs requests and responses of HTTP.
fn http() -> impl Calls {
    Cloned(tower::service_fn(respond).map_request(request))
}

fn tower_governor(is_used_up: bool) -> impl Calls {
    let mut builder = GovernorConfigBuilder::default();
    let mut builder = builder.key_extractor(GlobalKeyExtractor);
    if is_used_up {
        builder.period(HOUR).burst_size(1);
    } else {
        builder.per_nanosecond(1_000).burst_size(u32::MAX);
    }
    let config = builder.finish().expect("in order");
    let layer = GovernorLayer::new(config);
    let service = layer.layer(tower::service_fn(respond)).map_request(request);
    let mut calls = Cloned(service);
    calls.run(&runtime(), 2);
    calls
}

fn hashring(endpoints: u32) -> impl Calls {
    let mut ring = hashring::HashRing::new();
    ring.batch_add((0..endpoints).flat_map(|host| (0..160).map(move |n| (host, n))).collect());
    let ring = Arc::new(ring);
    let mut number = 0;
    Plain(move |_| {
        number += 1;
        black_box(ring.get(&mixed(number)));
    })
}

fn ketama(endpoints: u32) -> impl Calls {
    let bucket = |host: u32| {
        let address = std::net::SocketAddr::from((std::net::Ipv4Addr::from_bits(host), 80));
        pingora_ketama::Bucket::new(address, 1)
    };
    let buckets: Vec<_> = (0..endpoints).map(bucket).collect();
    let ring = Arc::new(pingora_ketama::Continuum::new(&buckets));
    let mut number = 0;
    Plain(move |_| {
        number += 1;
        black_box(ring.node(&mixed(number).to_le_bytes()));
    })
}

fn seatbelt() -> Vec<Case> {
    let clock = tick::Clock::new_tokio();
    let context = ResilienceContext::new(&clock);
    let breaker = |threshold| {
        Breaker::layer("breaker", &context)
            .recovery_with(|result: &Result<u64, Fault>, _| judge(result))
            .rejected_input_error(|_: u64, _| Fault)
            .failure_threshold(0.5)
            .min_throughput(threshold)
            .break_duration(HOUR)
    };
    let times = Timeout::layer("timeout", &context).timeout(HOUR).timeout_error(|_| Fault);
    let retry = Retry::layer("retry", &context);
    let retry = retry.clone_input().recovery_with(|result: &Result<u64, Fault>, _| judge(result));
    let hedge = Hedging::layer("hedge", &context).clone_input();
    let hedge = hedge.recovery_with(|result: &Result<u64, Fault>, _| judge(result));
    let hedge = hedge.hedging_delay(HOUR);
    let closed = ServiceBuilder::new().layer(breaker(200)).service(inner());
    let open = ServiceBuilder::new().layer(breaker(10)).service(failing());
    let mut open = Cloned(open);
    open.run(&runtime(), 200);
    vec![
        case("breaker_closed", Cloned(closed)),
        case("breaker_refusal", open),
        case("timeout", Cloned(ServiceBuilder::new().layer(times).service(inner()))),
        case("retry_first_ok", Cloned(ServiceBuilder::new().layer(retry).service(inner()))),
        case("backup_armed", Cloned(ServiceBuilder::new().layer(hedge).service(inner()))),
    ]
}

fn case(name: &'static str, calls: impl Calls + 'static) -> Case {
    Case::new(name, "seatbelt", calls)
}

fn judge(result: &Result<u64, Fault>) -> RecoveryInfo {
    if result.is_ok() { RecoveryInfo::never() } else { RecoveryInfo::retry() }
}
