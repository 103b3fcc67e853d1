//! The breaker as a tower service: polled by hand, so that a wrong state fails at once.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

mod support;

use std::{
    cell::Cell,
    future::{Ready, pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

use outrigger_circuitbreak::{
    Abandoned, CircuitBreaker, CircuitBreakerLayer, CircuitBreakerPolicyBuilder,
    CircuitBreakerService, State, WindowCounts,
};
use outrigger_core::{
    Enforcement, ErrorsAreFailures, Method, MethodRef, OnResponse, Outcome, Rejection,
};
use support::*;
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, service_fn};
use tower_test::mock;

type Mock = mock::Mock<&'static str, &'static str>;
type Governed<S> = CircuitBreakerService<S, CircuitBreaker, ErrorsAreFailures, OnResponse>;

fn layer(policy: CircuitBreakerPolicyBuilder) -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(policy.build().unwrap())
}

fn answer(well: bool) -> Ready<Result<(), BoxError>> {
    ready(if well { Ok(()) } else { Err("failed".into()) })
}

fn governed(
    layer: &CircuitBreakerLayer,
) -> (mock::Spawn<Governed<Mock>>, mock::Handle<&'static str, &'static str>) {
    mock::spawn_layer(layer.clone())
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_never_reaches_the_inner_service() {
    let layer = layer(touchy());
    let (mut service, mut inner) = governed(&layer);
    call(layer.handle(), Outcome::Failure);

    assert_ready_ok!(service.poll_ready());
    let mut refused = task::spawn(service.call("refused"));
    let error = assert_ready_err!(refused.poll());
    let said = "call refused by circuitbreak: circuit open; try again in 5s";
    assert_eq!(error.to_string(), said);
    assert_pending!(inner.poll_request());
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_inner_service_pass_untouched_and_open_the_circuit() {
    #[derive(Debug, PartialEq)]
    enum MyError {
        OutOfStock,
        Refused(&'static str),
    }
    impl From<Rejection> for MyError {
        fn from(rejection: Rejection) -> Self {
            Self::Refused(rejection.reason())
        }
    }
    let inner = service_fn(|()| ready(Err::<(), _>(MyError::OutOfStock)));
    let mut service = layer(touchy()).layer(inner);
    let mut call = || assert_ready_err!(task::spawn(service.call(())).poll());
    assert_eq!(call(), MyError::OutOfStock);
    assert_eq!(call(), MyError::Refused("circuit_open"));
}

#[tokio::test(start_paused = true)]
async fn a_closure_over_response_and_error_decides_what_a_failure_is() {
    let classifier = |result: Result<&u16, &BoxError>| match result {
        Ok(500..) => Outcome::Failure,
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Ignored,
    };
    let layer = layer(touchy()).classify(classifier);
    let answer = |response: Result<u16, &'static str>| {
        let inner = service_fn(move |()| ready(response.map_err(BoxError::from)));
        let mut service = layer.layer(inner);
        drop(assert_ready!(task::spawn(service.call(())).poll()));
        layer.handle().state()
    };
    assert_eq!(answer(Err("the caller's mistake")), State::Closed);
    assert_eq!(answer(Ok(204)), State::Closed);
    assert_eq!(answer(Ok(503)), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_gives_its_probe_back_wherever_it_was_dropped() {
    let layer = layer(touchy());
    let (mut service, mut inner) = governed(&layer);
    cooled_down(layer.handle()).await;
    for polls in 0..3 {
        assert_ready_ok!(service.poll_ready());
        let mut probe = task::spawn(service.call("probe"));
        (0..polls).for_each(|_| assert_pending!(probe.poll()));
        drop(probe);
        assert_ready!(inner.poll_request()).unwrap();
    }
    assert_eq!(layer.handle().state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_finished_future_that_is_kept_holds_nothing() {
    let layer = layer(touchy().successes_to_close(9).probe_interval(Duration::ZERO));
    let (mut service, mut inner) = governed(&layer);
    cooled_down(layer.handle()).await;
    assert_ready_ok!(service.poll_ready());
    let mut kept = task::spawn(service.call("probe"));
    assert_ready!(inner.poll_request()).unwrap().1.send_response("well");
    assert_eq!(assert_ready_ok!(kept.poll()), "well");
    assert!(layer.handle().try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_inner_service_or_of_the_classifier_leaks_no_probe() {
    let inner = service_fn(|panics_in_call: bool| {
        assert!(!panics_in_call, "in `call`");
        async { Err::<(), BoxError>("failed".into()) }
    });
    let classifier = |_: Result<&(), &BoxError>| -> Outcome { panic!("in the classifier") };
    let layer = layer(touchy()).classify(classifier);
    let mut service = layer.layer(inner);
    cooled_down(layer.handle()).await;
    for panics_in_call in [true, false] {
        let call = || {
            let mut probe = task::spawn(service.call(panics_in_call));
            drop(probe.poll());
        };
        catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        drop(layer.handle().try_acquire().expect("the place came back"));
    }
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_of_one_layer_share_a_breaker_and_separate_ones_do_not() {
    let layer = layer(touchy());
    let inner = || service_fn(|()| ready(Err::<(), BoxError>("failed".into())));
    let (mut one, mut other) = (layer.layer(inner()), layer.layer(inner()).clone());
    let mut apart = layer.separate().layer(inner());

    assert_ready_err!(task::spawn(one.call(())).poll());
    let refused = assert_ready_err!(task::spawn(other.call(())).poll());
    assert!(refused.is::<Rejection>());
    let answered = assert_ready_err!(task::spawn(apart.call(())).poll());
    assert!(!answered.is::<Rejection>());
}

#[tokio::test(start_paused = true)]
async fn latency_is_measured_from_the_call_and_a_dropped_call_may_count_as_slow() {
    let policy = exact().slow_calls(SECOND, 1.0, 100).abandoned(Abandoned::Slow);
    let layer = layer(policy);
    let mut service = layer.layer(service_fn(|()| pending::<Result<(), BoxError>>()));
    let mut running = task::spawn(service.call(()));
    assert_pending!(running.poll());
    pass(SECOND).await;
    drop(running);
    let counts = WindowCounts { calls: 1, slow: 1, ..WindowCounts::default() };
    assert_eq!(layer.handle().snapshot().counts, counts);
}

#[tokio::test(start_paused = true)]
async fn shadow_and_disabled_change_no_outcome() {
    for enforcement in [Enforcement::Shadow, Enforcement::Disabled] {
        let layer = layer(touchy().enforcement(enforcement));
        let mut service = layer.layer(service_fn(|n: u32| answer(n.is_multiple_of(2))));
        for n in 0..100 {
            let result = assert_ready!(task::spawn(service.call(n)).poll());
            assert_eq!(result.is_ok(), n.is_multiple_of(2), "{enforcement:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_method_has_its_own_breaker_and_its_name() {
    let name: for<'a> fn(&'a &'static str) -> Option<MethodRef<'a>> =
        |path| MethodRef::from_grpc_path(path);
    let log = Log::default();
    let layer =
        CircuitBreakerLayer::per_method(touchy().build().unwrap(), name).observe(log.clone());
    let mut service =
        layer.layer(service_fn(|path: &'static str| answer(path != "/shop.Orders/Place")));
    let mut call = |path| assert_ready!(task::spawn(service.call(path)).poll());

    call("/shop.Orders/Place").unwrap_err();
    let refused = call("/shop.Orders/Place").unwrap_err();
    let refused = refused.downcast::<Rejection>().unwrap();
    assert_eq!(refused.key(), Some("shop.Orders/Place"));
    call("/shop.Orders/List").unwrap();
    call("nameless").unwrap();

    let panel = layer.handle();
    let place = panel.get(&MethodRef { service: "shop.Orders", method: "Place" }).unwrap();
    assert_eq!(place.state(), State::Open);
    assert!(panel.get(&Method::new("_OTHER", "_OTHER")).is_some());
    assert_eq!(panel.len(), 3);
    assert_eq!(log.keys(), ["shop.Orders/Place"; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_key_can_be_read_from_any_request() {
    let layer = CircuitBreakerLayer::per_key(touchy().build().unwrap(), |tenant: &u32| *tenant);
    let mut service = layer.layer(service_fn(|tenant: u32| answer(tenant != 7)));
    let mut call = |tenant| assert_ready!(task::spawn(service.call(tenant)).poll());
    call(7).unwrap_err();
    assert!(call(7).unwrap_err().is::<Rejection>());
    call(8).unwrap();
    assert_eq!(layer.handle().get(&7).unwrap().name(), "7");
}

#[tokio::test(start_paused = true)]
async fn an_inner_service_need_be_neither_sync_nor_send_nor_clone() {
    struct Picky {
        ready: Rc<Cell<bool>>,
    }
    impl Service<()> for Picky {
        type Response = ();
        type Error = BoxError;
        type Future = Ready<Result<(), BoxError>>;
        fn poll_ready(
            &mut self,
            _cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), BoxError>> {
            self.ready.set(true);
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            assert!(self.ready.take(), "polled ready first");
            ready(Ok(()))
        }
    }
    let picky = Picky { ready: Rc::new(Cell::new(false)) };
    let mut service = ServiceBuilder::new().layer(layer(exact())).service(picky);
    for _ in 0..2 {
        assert_ready_ok!(task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx))).poll());
        assert_ready_ok!(task::spawn(service.call(())).poll());
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "polled after completion")]
async fn polling_a_finished_future_is_a_clear_panic() {
    let mut service = layer(exact()).layer(service_fn(|()| ready(Ok::<_, BoxError>(()))));
    let mut done = task::spawn(service.call(()));
    assert_ready_ok!(done.poll());
    let _ = done.poll();
}

/// Its permit must not count as one that was dropped: a probe would never close the circuit.
#[tokio::test(start_paused = true)]
async fn an_error_that_the_classifier_calls_a_success_counts_as_one() {
    let layer = layer(touchy().successes_to_close(1))
        .classify(|_: Result<&(), &BoxError>| Outcome::Success);
    let breaker = layer.handle().clone();
    let mut service = layer.layer(service_fn(|()| answer(false)));
    assert_ready_err!(task::spawn(service.call(())).poll());
    assert_eq!(breaker.snapshot().counts, WindowCounts { calls: 1, ..WindowCounts::default() });

    call(&breaker, Outcome::Failure);
    tokio::time::advance(COOL_DOWN).await;
    assert_ready_err!(task::spawn(service.call(())).poll());
    assert_eq!(breaker.state(), State::Closed);
}
