//! What a user of the client throttle sees.

mod support;

use std::{
    cell::Cell,
    future::{pending, ready},
    pin::pin,
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use outrigger_core::{Criticality, Enforcement, Live, Outcome, Rejection};
use outrigger_ratelimit::{
    ClientThrottle, ClientThrottleEvent, ClientThrottleLayer, ClientThrottlePanel,
    ClientThrottlePolicy, ClientThrottlePolicyBuilder, CutShort, THROTTLED, ThrottlePermit,
};
use support::{InRequest, Log, Request, SECOND};
use tokio::time::advance;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const CRITICAL: Criticality = Criticality::Critical;

fn of() -> ClientThrottlePolicyBuilder {
    ClientThrottlePolicy::builder()
}

fn throttle(policy: ClientThrottlePolicyBuilder) -> ClientThrottle {
    ClientThrottle::builder(policy.build().expect("a valid policy")).seed(7).build()
}

fn counts(throttle: &ClientThrottle) -> (u32, u32) {
    let counts = throttle.counts(CRITICAL);
    (counts.requests, counts.accepts)
}

/// So many calls that the callee did not accept.
fn not_accepted(throttle: &ClientThrottle, calls: u32) {
    let sent = (0..calls).filter_map(|_| throttle.try_acquire(CRITICAL).ok());
    sent.for_each(ThrottlePermit::not_accepted);
}

/// What a service that answers at once answers.
fn answer<S: Service<u32>>(service: &mut S, request: u32) -> Result<S::Response, S::Error> {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    match pin!(service.call(request)).poll(&mut cx) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("the inner service answers at once"),
    }
}

/// A backend in simulated time that accepts so many calls a second and refuses the rest.
#[derive(Clone, Default)]
struct Backend {
    offered_per_second: u32,
    /// Calls a second; nothing when it is down.
    capacity: Rc<Cell<f64>>,
    tokens: Rc<Cell<f64>>,
    sent: Rc<Cell<u32>>,
}

impl Backend {
    /// Can do a tenth of what is offered.
    fn overloaded(offered_per_second: u32) -> Self {
        let backend = Self { offered_per_second, ..Self::default() };
        backend.capacity.set(f64::from(offered_per_second) / 10.0);
        backend
    }

    fn service(&self) -> impl Service<u32, Response = (), Error = BoxError> + use<> {
        let backend = self.clone();
        service_fn(move |_| ready(backend.take()))
    }

    fn take(&self) -> Result<(), BoxError> {
        self.sent.set(self.sent.get() + 1);
        if self.tokens.get() < 1.0 {
            return Err("overloaded".into());
        }
        self.tokens.set(self.tokens.get() - 1.0);
        Ok(())
    }

    /// Offers calls for so many seconds, and says how many of them were sent.
    async fn offer<S>(&self, service: &mut S, seconds: u32) -> u32
    where
        S: Service<u32, Response = (), Error = BoxError>,
    {
        let before = self.sent.get();
        for number in 0..seconds * self.offered_per_second {
            advance(SECOND / self.offered_per_second).await;
            let more = self.capacity.get() / f64::from(self.offered_per_second);
            self.tokens.set((self.tokens.get() + more).min(self.capacity.get()));
            let _ = answer(service, number);
        }
        self.sent.get() - before
    }

    /// How many seconds it takes until at most one call in a hundred is refused here.
    async fn come_back<S>(&self, service: &mut S) -> u32
    where
        S: Service<u32, Response = (), Error = BoxError>,
    {
        self.capacity.set(f64::from(2 * self.offered_per_second));
        let mut took = 0;
        while self.offer(service, 5).await * 100 < 5 * self.offered_per_second * 99 {
            took += 5;
            assert!(took < 50_000, "it comes back at last");
        }
        took
    }

    async fn come_back_after_outage<S>(&self, service: &mut S) -> u32
    where
        S: Service<u32, Response = (), Error = BoxError>,
    {
        self.offer(service, 120).await;
        self.capacity.set(0.0);
        self.offer(service, 300).await;
        self.come_back(service).await
    }
}

/// As the formula of the SRE book's client throttle has it (Handling Overload): at ten times its
/// capacity the backend is sent `k` times what it can do, within a twentieth, after three windows.
/// Prints the table of the front page: 200 calls a second.
#[tokio::test(start_paused = true)]
async fn at_ten_times_the_capacity_it_sends_k_times_the_capacity_and_comes_back() {
    println!(
        "| `k` | sent / capacity | back after 10x overload | after 5 min of outage | with a window of 10 s |"
    );
    for k in [1.1, 1.5, 2.0] {
        let backend = Backend::overloaded(200);
        let mut service = throttled(k, 120 * SECOND, &backend);
        backend.offer(&mut service, 360).await;
        let sent = f64::from(backend.offer(&mut service, 240).await);
        let share = sent / backend.capacity.get() / 240.0;
        assert!((share / k - 1.0).abs() < 0.05, "k = {k}: sent {share} of the capacity");
        let after_overload = backend.come_back(&mut service).await;
        let after_outage = backend.come_back_after_outage(&mut service).await;
        let mut service = throttled(k, 10 * SECOND, &backend);
        let soon = backend.come_back_after_outage(&mut service).await;
        println!("| {k} | {share:.2} | {after_overload} s | {after_outage} s | {soon} s |");
    }
}

fn throttled(
    k: f64,
    window: Duration,
    backend: &Backend,
) -> impl Service<u32, Response = (), Error = BoxError> + use<> {
    let policy = of().k(k).window(window).build().expect("a valid policy");
    let handle = ClientThrottle::builder(policy).seed(1).build();
    ClientThrottleLayer::from_handle(handle).layer(backend.service())
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_never_reaches_the_callee_and_says_why() {
    let log = Log::default();
    let policy = of().build().unwrap();
    let handle = ClientThrottle::builder(policy).name("stock").seed(1).observe(log.clone()).build();
    let sent = Rc::new(Cell::new(0));
    let inner = service_fn(|_: u32| {
        sent.set(sent.get() + 1);
        ready(Err::<(), BoxError>("overloaded".into()))
    });
    let mut service = ClientThrottleLayer::from_handle(handle).layer(inner);
    let errors: Vec<_> = (0..100).map(|number| answer(&mut service, number).unwrap_err()).collect();
    let refused: Vec<&Rejection> = errors.iter().filter_map(|error| error.downcast_ref()).collect();
    assert_eq!(refused.len() + sent.get(), 100);
    assert!(sent.get() < 20, "{} sent", sent.get());
    assert!(refused.iter().all(|rejection| !rejection.was_sent()));
    assert_eq!((refused[0].reason(), refused[0].key()), (THROTTLED, Some("stock")));
    assert_eq!(log.all().len(), refused.len());
    let ClientThrottleEvent::Refused { criticality, requests, accepts, shadow, probability } =
        log.all()[0]
    else {
        unreachable!("there is no other event")
    };
    assert_eq!((criticality, accepts, shadow), (CRITICAL, 0, false));
    assert!(requests >= 5, "{requests} are too few to judge");
    assert!((probability - f64::from(requests) / f64::from(requests + 1)).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn what_the_callee_answers_is_accepted_and_what_never_came_to_it_counts_for_nothing() {
    let classify = |result: Result<&u32, &BoxError>| match result {
        Ok(404) => Outcome::Ignored,
        Ok(504) => Outcome::Timeout,
        Ok(_) => Outcome::Success,
        Err(error) if error.is::<Rejection>() => Outcome::Ignored,
        Err(_) => Outcome::Failure,
    };
    let layer = ClientThrottleLayer::new(of().build().unwrap()).classify(classify);
    let mut service = layer.layer(service_fn(|status: u32| {
        ready(match status {
            1 => Err(BoxError::from(Rejection::unavailable("circuitbreak", "circuit_open"))),
            2 => Err("connection refused".into()),
            status => Ok(status),
        })
    }));
    let mut after = |request| {
        let _ = answer(&mut service, request);
        counts(layer.handle())
    };
    assert_eq!(after(200), (1, 1));
    assert_eq!(after(404), (2, 2), "the callee took the trouble");
    assert_eq!(after(504), (3, 2));
    assert_eq!(after(2), (4, 2));
    assert_eq!(after(1), (4, 2), "an open circuit further in is no word of the callee's");
}

#[tokio::test(start_paused = true)]
async fn each_class_is_throttled_for_itself_and_the_class_travels_on() {
    let class_of = |request: &Request| (request.name > 1).then_some(Criticality::Sheddable);
    let handle = throttle(of());
    let layer =
        ClientThrottleLayer::from_handle(handle.clone()).context(InRequest).criticality(class_of);
    let mut service = layer.layer(service_fn(|request: Request| {
        ready(if request.context.criticality == Some(Criticality::Sheddable) {
            Err::<u32, BoxError>("no time for that".into())
        } else {
            Ok(request.name)
        })
    }));
    for _ in 0..200 {
        let _ = service.ready().await.unwrap().call(Request::named(2)).await;
    }
    assert!(handle.refusal_probability(Criticality::Sheddable) > 0.99);
    assert!(handle.refusal_probability(CRITICAL) <= 0.0);
    for _ in 0..200 {
        assert!(service.ready().await.unwrap().call(Request::named(1)).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_counts_as_the_policy_says() {
    for (cut_short, expected) in [(CutShort::Ignored, (0, 0)), (CutShort::NotAccepted, (1, 0))] {
        let layer = ClientThrottleLayer::new(of().cut_short(cut_short).build().unwrap());
        let inner = service_fn(|_: u32| pending::<Result<(), BoxError>>());
        let mut call = Box::pin(layer.layer(inner).call(1));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(counts(layer.handle()), (0, 0), "what runs says nothing yet");
        drop(call);
        assert_eq!(counts(layer.handle()), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panicking_callee_or_classifier_leaves_the_throttle_whole() {
    let classify = |result: Result<&u32, &BoxError>| match result {
        Ok(2) => panic!("the classifier panics"),
        _ => Outcome::Success,
    };
    let layer = ClientThrottleLayer::new(of().build().unwrap()).classify(classify);
    let mut service = layer.layer(service_fn(|number: u32| {
        assert_ne!(number, 1, "the callee panics");
        ready(Ok::<_, BoxError>(number))
    }));
    for number in [1, 2] {
        let call = std::panic::AssertUnwindSafe(|| answer(&mut service, number));
        assert!(std::panic::catch_unwind(call).is_err());
    }
    assert_eq!(answer(&mut service, 3).unwrap(), 3);
    assert_eq!(counts(layer.handle()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn shadow_refuses_nobody_and_tells_whom_it_would_have() {
    let log = Log::default();
    let policy = Live::new(of().enforcement(Enforcement::Shadow).build().unwrap());
    let throttle = ClientThrottle::builder(policy.clone()).observe(log.clone()).build();
    for _ in 0..1_000 {
        throttle.try_acquire(CRITICAL).expect("nobody is refused").not_accepted();
    }
    assert_eq!(throttle.counts(CRITICAL).requests, 1_000, "each counts once");
    let told = log.all().len();
    assert!(told > 900, "{told}");
    let all_shadow = log
        .all()
        .iter()
        .all(|event| matches!(event, ClientThrottleEvent::Refused { shadow: true, .. }));
    assert!(all_shadow);

    policy.update(|policy| policy.with_enforcement(Enforcement::Disabled));
    for _ in 0..1_000 {
        throttle.try_acquire(CRITICAL).expect("nobody is refused").not_accepted();
    }
    assert_eq!(throttle.counts(CRITICAL).requests, 1_000, "nothing is counted");
    policy.update(|policy| policy.with_enforcement(Enforcement::Enforced));
    assert!((0..10).any(|_| throttle.try_acquire(CRITICAL).is_err()), "what was known is kept");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_policy_acts_with_the_next_call_and_keeps_the_counts() {
    let throttle = throttle(of());
    for number in 0..100 {
        let permit = throttle.try_acquire(CRITICAL).expect("half are accepted");
        if number % 2 == 0 { permit.accepted() } else { permit.not_accepted() }
    }
    assert!(throttle.refusal_probability(CRITICAL) <= 0.0);
    throttle.policy().update(|policy| policy.to_builder().k(1.1).build().unwrap());
    throttle.refresh();
    assert!((throttle.refusal_probability(CRITICAL) - 45.0 / 101.0).abs() < 1e-9);
    throttle.policy().update(|policy| policy.to_builder().window(SECOND).build().unwrap());
    throttle.refresh();
    assert_eq!(counts(&throttle), (100, 50));
    advance(SECOND * 2).await;
    assert_eq!(counts(&throttle), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_forgotten_after_a_window() {
    let throttle = throttle(of());
    not_accepted(&throttle, 100);
    assert!(throttle.refusal_probability(CRITICAL) > 0.9);
    advance(121 * SECOND).await;
    assert!(throttle.refusal_probability(CRITICAL) <= 0.0);
    assert_eq!(counts(&throttle), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_services_of_a_layer_share_a_throttle_and_a_separate_layer_has_its_own() {
    let layer = ClientThrottleLayer::new(of().build().unwrap());
    let inner = || service_fn(|_: u32| ready(Err::<(), BoxError>("overloaded".into())));
    let separate = layer.separate();
    let _ = answer(&mut layer.layer(inner()), 1);
    let _ = answer(&mut layer.layer(inner()), 1);
    let _ = answer(&mut separate.layer(inner()), 1);
    assert_eq!((counts(layer.handle()), counts(separate.handle())), ((2, 0), (1, 0)));
}

#[tokio::test(start_paused = true)]
async fn each_key_is_throttled_for_itself_and_a_hundred_thousand_keys_stay_within_the_cap() {
    let panel = ClientThrottlePanel::<u32>::new(of().build().unwrap());
    let mut service = panel
        .clone()
        .into_layer(|request: &u32| *request)
        .layer(service_fn(|_| ready(Err::<(), BoxError>("overloaded".into()))));
    for _ in 0..100 {
        let _ = answer(&mut service, 7);
    }
    let busy = panel.get(&7).expect("it was made");
    assert!(busy.refusal_probability(CRITICAL) > 0.9);
    assert_eq!((busy.name(), panel.len()), ("7", 1));
    for key in 0..100_000 {
        let throttle = panel.throttle(&key);
        assert!(throttle.refusal_probability(Criticality::CriticalPlus) <= 0.0);
    }
    assert!(panel.len() <= 10_000, "{}", panel.len());
    assert!(panel.get(&7).is_some(), "what counts calls stays");
}

#[test]
fn two_threads_lose_no_call() {
    let throttle = throttle(of().k(100.0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for number in 0..10_000 {
                    let permit = throttle.try_acquire(CRITICAL).expect("most are accepted");
                    if number % 4 == 0 { permit.not_accepted() } else { permit.accepted() }
                }
            });
        }
    });
    assert_eq!(counts(&throttle), (20_000, 15_000));
}

#[test]
fn the_same_seed_draws_the_same_lots() {
    let refused = |seed| {
        let throttle = ClientThrottle::builder(of().build().unwrap()).seed(seed).build();
        let asked = (0..100).map(|_| throttle.try_acquire(CRITICAL));
        asked.map(|permit| permit.map(ThrottlePermit::not_accepted).is_err()).collect::<Vec<_>>()
    };
    assert_eq!(refused(1), refused(1));
    assert_ne!(refused(1), refused(2));
}

#[test]
fn an_observer_that_asks_the_throttle_again_does_not_deadlock() {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let policy = Live::new(of().build().unwrap());
    let live = policy.clone();
    let throttle = ClientThrottle::builder(policy)
        .seed(1)
        .observe(move |_: &str, _: &ClientThrottleEvent| {
            live.update(|policy| policy.with_enforcement(Enforcement::Shadow));
            ASKED.store(true, Ordering::Relaxed);
        })
        .build();
    for _ in 0..100 {
        if let Ok(permit) = throttle.try_acquire(CRITICAL) {
            permit.not_accepted();
        }
    }
    assert!(ASKED.load(Ordering::Relaxed));
}

#[cfg(feature = "http")]
mod http {
    use std::collections::VecDeque;

    use ::http::{HeaderMap, HeaderValue, Response};
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// A gRPC stream that begins well and says at its end what became of it.
    #[tokio::test(start_paused = true)]
    async fn over_grpc_the_trailers_say_whether_a_call_was_accepted() {
        let layer = ClientThrottleLayer::new(of().build().unwrap()).grpc();
        for (code, expected) in [(0_u16, (1, 1)), (13, (2, 2)), (14, (3, 2)), (4, (4, 2))] {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from(code));
            let frames = VecDeque::from([
                Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"part"))),
                Ok(Frame::trailers(trailers)),
            ]);
            let body = StreamBody::new(tokio_stream::iter(frames));
            let mut body = Some(body);
            let inner = service_fn(move |_: ::http::Request<()>| {
                ready(Ok::<_, BoxError>(Response::new(body.take().expect("called once"))))
            });
            let before = counts(layer.handle());
            let mut service = layer.layer(inner);
            let response = service.call(::http::Request::new(())).await.unwrap();
            assert_eq!(counts(layer.handle()), before, "the head is not the end");
            response.into_body().collect().await.unwrap();
            assert_eq!(counts(layer.handle()), expected, "grpc-status {code}");
        }
    }
}
