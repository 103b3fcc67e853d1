//! The breaker under the laws of a tower layer.

mod support;

use outrigger_circuitbreak::{
    CircuitBreaker, CircuitBreakerFuture, CircuitBreakerLayer, CircuitBreakerPolicyBuilder,
};
use outrigger_core::{Enforcement, ErrorsAreFailures, OnResponse};
use outrigger_testing::{Answer, Scripted, ScriptedFuture, laws};
use support::{exact, touchy};
use tokio_test::{assert_ready, task};
use tower::{BoxError, Service};

fn layer(policy: CircuitBreakerPolicyBuilder) -> impl Fn() -> CircuitBreakerLayer {
    move || CircuitBreakerLayer::new(policy.clone().build().expect("a valid policy"))
}

#[test]
fn it_keeps_the_laws_whatever_its_enforcement_and_its_rules() {
    laws::all(layer(exact()));
    laws::all(layer(exact().count_window(1_000)));
    laws::all(layer(exact().slow_calls(support::SECOND, 0.5, 200)));
    laws::all(layer(touchy().enforcement(Enforcement::Shadow)));
    laws::all(layer(touchy().enforcement(Enforcement::Disabled)));
}

#[test]
fn it_keeps_the_laws_with_a_breaker_for_each_key() {
    let policy = exact().build().expect("a valid policy");
    laws::all(|| CircuitBreakerLayer::per_key(policy.clone(), |request: &u32| request % 3));
}

#[test]
fn services_of_one_layer_share_the_breaker() {
    let call = |service: &mut <CircuitBreakerLayer as tower::Layer<Scripted>>::Service| {
        assert!(assert_ready!(task::spawn(()).enter(|cx, _| service.poll_ready(cx))).is_ok());
        let result: Result<u32, BoxError> = assert_ready!(task::spawn(service.call(1)).poll());
        result
    };
    laws::a_layer_applied_twice_shares_its_state(
        layer(touchy()),
        |service, script| {
            script.answer(Answer::Error);
            drop(call(service));
            script.answer(Answer::Ok);
        },
        |service| call(service).is_err(),
    );
}

#[test]
fn its_future_is_small_and_goes_anywhere() {
    type Future = CircuitBreakerFuture<ScriptedFuture, (), ErrorsAreFailures, OnResponse>;
    laws::is_send_and_at_most::<Future>(size_of::<ScriptedFuture>() + 88);
    laws::is_send_and_at_most::<CircuitBreaker>(16);
}
