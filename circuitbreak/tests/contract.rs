//! The breaker under the laws of a tower layer.

mod support;

use outrigger_circuitbreak::{
    CircuitBreaker, CircuitBreakerFuture, CircuitBreakerLayer, CircuitBreakerPolicyBuilder,
};
use outrigger_core::{Enforcement, ErrorsAreFailures, OnResponse};
use outrigger_testing::{Answer, Script, Scripted, ScriptedFuture, laws};
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

type Governed = <CircuitBreakerLayer as tower::Layer<Scripted>>::Service;

fn call(service: &mut Governed) -> Result<u32, BoxError> {
    assert!(assert_ready!(task::spawn(()).enter(|cx, _| service.poll_ready(cx))).is_ok());
    assert_ready!(task::spawn(service.call(1)).poll())
}

/// Opens the circuit of a service.
fn fail(service: &mut Governed, script: &Script) {
    script.answer(Answer::Error);
    drop(call(service));
    script.answer(Answer::Ok);
}

#[test]
fn services_of_one_layer_share_the_breaker_and_those_of_separate_ones_do_not() {
    let is_open = |service: &mut Governed| call(service).is_err();
    laws::a_layer_applied_twice_shares_its_state(layer(touchy()), fail, is_open);
    let separate = || {
        let layer = layer(touchy())();
        [layer.separate(), layer]
    };
    laws::separate_layers_share_nothing(separate, fail, is_open);
}

#[test]
fn it_needs_nothing_of_the_inner_service_but_that_it_is_one() {
    let (_, script) = outrigger_testing::scripted();
    laws::needs_only_a_service(layer(exact()), &script);
}

#[test]
fn it_allocates_nothing_for_a_call() {
    laws::a_call_allocates_nothing(layer(exact()));
}

#[cfg(feature = "http")]
#[test]
fn it_keeps_the_laws_of_bodies() {
    laws::http::all(|| layer(exact())().http());
    laws::http::all(|| layer(exact())().grpc());
}

#[test]
fn its_future_is_small_and_goes_anywhere() {
    type Future = CircuitBreakerFuture<ScriptedFuture, (), ErrorsAreFailures, OnResponse, BoxError>;
    laws::is_send_and_at_most::<Future>(size_of::<ScriptedFuture>() + 32);
    laws::is_send_and_at_most::<CircuitBreaker>(16);
}
