//! The layer under the laws of a tower layer.

#[expect(dead_code, reason = "the laws need but a part of it")]
mod support;

use std::sync::Arc;

use outrigger_core::{ErrorsAreFailures, OnResponse};
use outrigger_observability::{
    CallEnd, CallStart, Contained, ObserveFuture, ObserveLayer, Plain, Tracer, names,
};
use outrigger_testing::{Answer, Script, Scripted, ScriptedFuture, laws};
use support::Memory;
use tokio_test::{assert_ready, task};
use tower::{Layer, Service};

#[derive(Clone)]
struct Idle;

impl Tracer for Idle {
    type State = ();
    fn start(&self, _call: &CallStart<'_>) {}
    fn finish(&self, (): (), _end: &CallEnd) {}
}

#[test]
fn it_keeps_the_laws_on_every_side() {
    laws::all(ObserveLayer::client);
    laws::all(|| ObserveLayer::client().meter(Memory::default()));
    laws::all(|| ObserveLayer::attempt().meter(Memory::default()).tracer(Idle));
    laws::all(|| ObserveLayer::server().meter(Memory::default()));
}

#[cfg(feature = "tracing")]
#[test]
fn it_keeps_the_laws_with_spans() {
    laws::all(|| ObserveLayer::client().spans());
}

#[test]
fn it_needs_nothing_of_the_inner_service_but_that_it_is_one() {
    let (_, script) = outrigger_testing::scripted();
    laws::needs_only_a_service(ObserveLayer::client, &script);
}

type Observed = <ObserveLayer as Layer<Scripted>>::Service;

#[test]
fn services_of_one_layer_share_their_instruments() {
    let memory = Memory::default();
    let observed = memory.clone();
    let begin = |service: &mut Observed, script: &Script| {
        script.answer(Answer::Pending);
        assert!(assert_ready!(task::spawn(()).enter(|cx, _| service.poll_ready(cx))).is_ok());
        task::spawn(service.call(1))
    };
    let is_seen = |_: &mut Observed| observed.sum(names::CLIENT_IN_FLIGHT, &[]) > 0.0;
    let layer = || ObserveLayer::client().meter(memory.clone());
    laws::a_layer_applied_twice_shares_its_state(layer, begin, is_seen);
}

#[cfg(feature = "http")]
#[test]
fn it_keeps_the_laws_of_bodies() {
    laws::http::all(|| ObserveLayer::client().meter(Memory::default()).http());
    laws::http::all(|| ObserveLayer::server().meter(Memory::default()).grpc());
}

#[test]
fn its_future_is_small_and_goes_anywhere() {
    type Future<X> = ObserveFuture<ScriptedFuture, Plain, ErrorsAreFailures, OnResponse, X>;
    let span = if cfg!(feature = "tracing") { 40 } else { 0 };
    laws::is_send_and_at_most::<Future<()>>(size_of::<ScriptedFuture>() + 80 + span);
    laws::is_send_and_at_most::<Future<((), Arc<Contained<Idle>>)>>(
        size_of::<ScriptedFuture>() + 88 + span,
    );
}
