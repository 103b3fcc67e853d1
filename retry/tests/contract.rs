//! The time-out and the retry under the laws of a tower layer.

use std::time::Duration;

use outrigger_core::Enforcement;
use outrigger_retry::{
    QuantileDelay, RetryLayer, RetryPolicy, RetryPolicyBuilder, TimeoutLayer, TimeoutPolicy,
};
use outrigger_testing::{Script, laws};

const ALL: [Enforcement; 3] = [Enforcement::Enforced, Enforcement::Shadow, Enforcement::Disabled];
const HOUR: Duration = Duration::from_secs(3_600);

fn an_hour(enforcement: Enforcement) -> impl Fn() -> TimeoutLayer {
    let policy = TimeoutPolicy::after(HOUR);
    move || TimeoutLayer::new(policy.with_enforcement(enforcement))
}

fn retry(policy: RetryPolicyBuilder, enforcement: Enforcement) -> impl Fn() -> RetryLayer {
    let policy = policy.enforcement(enforcement).build().expect("it can be");
    move || RetryLayer::new(policy)
}

#[test]
fn a_timeout_keeps_the_laws_whatever_its_enforcement() {
    for enforcement in ALL {
        laws::all(an_hour(enforcement));
    }
    laws::waiting_costs_no_polls(an_hour(Enforcement::Enforced), Duration::from_secs(60));
}

#[test]
fn a_timeout_needs_nothing_of_the_inner_service_but_that_it_is_one() {
    laws::needs_only_a_service(an_hour(Enforcement::Enforced), &Script::default());
}

#[test]
fn a_timeout_allocates_nothing_for_a_call() {
    laws::a_call_allocates_nothing(an_hour(Enforcement::Enforced));
}

#[test]
fn a_failure_retry_keeps_the_laws_whatever_its_enforcement() {
    for enforcement in ALL {
        laws::all(retry(RetryPolicy::failure(), enforcement));
    }
}

#[test]
fn a_retry_of_idempotent_calls_keeps_the_laws() {
    laws::all(retry(RetryPolicy::failure().idempotent(true), Enforcement::Enforced));
}

#[test]
fn a_backup_request_keeps_the_laws_whatever_its_enforcement() {
    for enforcement in ALL {
        laws::all(retry(RetryPolicy::backup(HOUR).idempotent(true), enforcement));
        laws::all(retry(RetryPolicy::mixed(HOUR).idempotent(true), enforcement));
    }
    let hour = retry(RetryPolicy::backup(HOUR).idempotent(true), Enforcement::Enforced);
    laws::waiting_costs_no_polls(hour, Duration::from_secs(60));
}

#[test]
fn a_backup_request_by_a_live_quantile_keeps_the_laws() {
    let quantile = RetryPolicy::backup(QuantileDelay::of(0.99)).idempotent(true);
    laws::all(retry(quantile, Enforcement::Enforced));
}

#[test]
fn a_retry_needs_of_the_inner_service_only_that_it_is_clonable() {
    let layer = retry(RetryPolicy::failure(), Enforcement::Enforced);
    laws::needs_only_a_clonable_service(layer, &Script::default());
}

#[test]
fn a_layer_applied_twice_shares_and_separate_ones_do_not() {
    let layer = || RetryLayer::new(RetryPolicy::default());
    let one = layer();
    assert!(one.handle().ptr_eq(one.clone().handle()));
    assert!(!one.handle().ptr_eq(one.separate().handle()));
    assert!(!one.handle().budget().ptr_eq(one.separate().handle().budget()));
    assert!(one.handle().policy().ptr_eq(one.separate().handle().policy()));
}

#[test]
fn a_first_attempt_that_succeeds_allocates_nothing() {
    laws::a_call_allocates_nothing(retry(RetryPolicy::failure(), Enforcement::Enforced));
    for delay in [HOUR, Duration::from_millis(1)] {
        let backup = RetryPolicy::backup(delay).idempotent(true);
        laws::a_call_allocates_nothing(retry(backup, Enforcement::Enforced));
    }
    let quantile = RetryPolicy::mixed(QuantileDelay::of(0.99)).idempotent(true);
    laws::a_call_allocates_nothing(retry(quantile, Enforcement::Enforced));
}

#[cfg(feature = "http")]
mod http {
    //! The layers of HTTP, and bodies under their laws.

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Empty;
    use outrigger_retry::{ChainLayer, RetryLayer};
    use outrigger_testing::{Scripted, ScriptedHttp, laws};
    use tower::{Layer, ServiceBuilder, layer::layer_fn};

    use super::{ALL, HOUR, RetryPolicy, RetryPolicyBuilder};

    #[test]
    fn the_chain_keeps_the_laws() {
        laws::all(|| {
            layer_fn(|inner: Scripted| {
                ServiceBuilder::new()
                    .map_request(Request::<u32>::new)
                    .map_response(Response::<u32>::into_body)
                    .layer(ChainLayer::new())
                    .map_request(Request::<u32>::into_body)
                    .map_response(Response::<u32>::new)
                    .service(inner)
            })
        });
        laws::http::all(ChainLayer::new);
    }

    fn policies() -> Vec<RetryPolicyBuilder> {
        let idempotent = |policy: RetryPolicyBuilder| policy.idempotent(true);
        let policies =
            [RetryPolicy::failure(), RetryPolicy::backup(HOUR), RetryPolicy::mixed(HOUR)];
        let with = |enforcement| policies.map(|policy| idempotent(policy).enforcement(enforcement));
        ALL.into_iter().flat_map(with).collect()
    }

    #[test]
    fn bodies_pass_through_retries_as_they_are() {
        for policy in policies() {
            let policy = policy.build().expect("it can be");
            laws::http::all(|| over_http(RetryLayer::new(policy).http()));
            laws::http::all(|| over_http(RetryLayer::new(policy).grpc()));
        }
    }

    /// What panics in a body that is read before it is given, panics in the call: of that law there
    /// is nothing to see.
    #[test]
    fn bodies_that_are_read_for_their_status_are_given_as_they_are() {
        for policy in policies() {
            let policy = policy.unary(true).build().expect("it can be");
            let layer = || over_http(RetryLayer::new(policy).grpc());
            laws::http::a_body_passes_as_it_is(layer);
            laws::http::dropping_a_body_at_any_frame_leaves_nothing_behind(layer);
            laws::http::a_body_that_is_over_but_kept_leaves_nothing_behind(layer);
        }
    }

    /// The layer takes bodies; the law sends none.
    fn over_http<L: Layer<ScriptedHttp>>(
        layer: L,
    ) -> impl Layer<ScriptedHttp, Service = tower::util::MapRequest<L::Service, AddBody>> {
        layer_fn(move |inner| {
            let add_body: AddBody = |request| request.map(|()| Empty::new());
            tower::util::MapRequest::new(layer.layer(inner), add_body)
        })
    }

    type AddBody = fn(Request<()>) -> Request<Empty<Bytes>>;
}
