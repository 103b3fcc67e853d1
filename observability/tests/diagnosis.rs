//! What the diagnosis shows, to whom, and what it lets be changed.

use std::{error::Error, num::NonZeroUsize, time::Duration};

use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full};
use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerPanel, CircuitBreakerPolicy, State};
use outrigger_core::{Enforcement, Observe, Outcome};
use outrigger_loadbalance::{Balance, BalanceEvent, BalancePolicy, EndpointInfo};
use outrigger_observability::{Diagnosis, DiagnosisBody, DiagnosisService};
use outrigger_ratelimit::{
    BeyondLimit, ClientThrottle, ClientThrottlePolicy, ConcurrencyLimit, ConcurrencyLimitPanel,
    ConcurrencyLimitPolicy, ConnectionLimit, RateLimit, RateLimitPanel, RateLimitPolicy,
};
use outrigger_retry::{AttemptKind, RetryBudget, RetryBudgetPolicy, RetryEvent};
use serde_json::{Value, json};
use tower::ServiceExt;

const TOKEN: &str = "a token of some length";

type Answer = Response<DiagnosisBody>;
type TestResult = Result<(), Box<dyn Error>>;

async fn ask(service: &DiagnosisService, method: Method, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).body(Full::new(Bytes::new()));
    service.clone().oneshot(request.expect("a request")).await.expect("never fails")
}

async fn order(service: &DiagnosisService, token: Option<&str>, order: Value) -> Answer {
    send(service, token, order.to_string()).await
}

async fn send(service: &DiagnosisService, token: Option<&str>, body: String) -> Answer {
    let mut request = Request::post("/control");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    service
        .clone()
        .oneshot(request.body(Full::new(Bytes::from(body))).expect("a request"))
        .await
        .expect("never fails")
}

async fn text(answer: Answer) -> String {
    String::from_utf8(answer.into_body().collect().await.expect("never fails").to_bytes().to_vec())
        .expect("text")
}

/// The next event of a stream: its name and its data.
async fn event(answer: &mut Answer) -> (String, Value) {
    let frame = answer.body_mut().frame().await.expect("the stream goes on").expect("never fails");
    let text = String::from_utf8(frame.into_data().expect("data").to_vec()).expect("text");
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the field");
        line.to_owned()
    };
    assert!(text.ends_with("\n\n") && text.trim_end().lines().count() == 3, "{text}");
    (field("event: "), serde_json::from_str(&field("data: ")).expect("JSON"))
}

fn breaker(name: &str) -> CircuitBreaker {
    CircuitBreaker::builder(CircuitBreakerPolicy::default()).name(name).build()
}

fn json_of(diagnosis: &Diagnosis) -> Value {
    serde_json::to_value(diagnosis.snapshot()).expect("JSON")
}

#[tokio::test(start_paused = true)]
async fn breakers_show_their_state_their_window_step_by_step_and_their_policy() -> TestResult {
    let diagnosis = Diagnosis::new();
    let breaker = breaker("orders");
    breaker.try_acquire()?.record(Outcome::Failure);
    breaker.try_acquire()?.record(Outcome::Success);
    let breakers = CircuitBreakerPanel::<&str>::new(CircuitBreakerPolicy::default());
    breakers.breaker(&"stock").force_open();
    diagnosis.register("breaker", breaker.downgrade());
    diagnosis.register("breakers", breakers.downgrade());

    let snapshot = json_of(&diagnosis);
    assert_eq!(snapshot["format"], 1);
    let first = &snapshot["breakers"][0];
    assert_eq!(first["id"], "0/orders");
    assert_eq!((&first["name"], &first["state"]), (&json!("breaker"), &json!("closed")));
    assert_eq!(first["window"], json!({"calls": 2, "errors": 1, "slow": 0}));
    let steps = first["steps"].as_array().unwrap();
    assert_eq!((steps.len(), &steps[49]["calls"]), (50, &json!(2)));
    assert_eq!(first["window_ms"], 10_000);
    assert_eq!(first["policy"]["cool_down"], "5s");
    let second = &snapshot["breakers"][1];
    assert_eq!((&second["id"], &second["state"]), (&json!("1/stock"), &json!("forced_open")));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn limits_show_how_much_of_them_is_used() -> TestResult {
    let diagnosis = Diagnosis::new();
    let concurrency = ConcurrencyLimit::new(ConcurrencyLimitPolicy::builder().limit(4).build()?);
    let _inside = concurrency.try_acquire()?;
    let concurrencies = ConcurrencyLimitPanel::<&str>::new(ConcurrencyLimitPolicy::default());
    let _inside_panel = concurrencies.limit(&"a").try_acquire()?;
    let rate = RateLimit::new(RateLimitPolicy::builder().rate(100).burst(10).build()?);
    rate.try_acquire(3)?;
    let rates = RateLimitPanel::<&str>::new(RateLimitPolicy::default());
    let _rate = rates.limit(&"b");
    let connections = ConnectionLimit::new(7, BeyondLimit::Refuse)?;
    let throttle = ClientThrottle::new(ClientThrottlePolicy::default());
    diagnosis.register("concurrency", concurrency.downgrade());
    diagnosis.register("concurrencies", concurrencies.downgrade());
    diagnosis.register("rate", rate.downgrade());
    diagnosis.register("rates", rates.downgrade());
    diagnosis.register("connections", connections.downgrade());
    diagnosis.register("throttle", throttle.downgrade());

    let snapshot = diagnosis.snapshot();
    let facts = |index: usize| {
        let row = &snapshot.limits[index];
        (&*row.name, row.kind, row.limit, row.used, row.shares_policy)
    };
    assert_eq!(facts(0), ("concurrency", "concurrency", Some(4), 1, false));
    let default = ConcurrencyLimitPolicy::default().limit().into();
    assert_eq!(facts(1), ("concurrencies", "concurrency", Some(default), 1, true));
    assert_eq!(facts(2), ("rate", "rate", Some(10), 3, false));
    assert_eq!(snapshot.limits[2].per_second, Some(100.0));
    let default = RateLimitPolicy::default().burst().into();
    assert_eq!(facts(3), ("rates", "rate", Some(default), 0, true));
    assert_eq!(facts(4), ("connections", "connections", Some(7), 0, false));
    assert_eq!(facts(5), ("throttle", "throttle", None, 0, false));
    assert_eq!(snapshot.limits[5].refused_share, Some(0.0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn budgets_show_what_is_left_and_balancers_their_endpoints_shares() -> TestResult {
    let diagnosis = Diagnosis::new();
    let budget = RetryBudget::new(RetryBudgetPolicy::builder().ratio(0.5).reserve(1).build()?);
    (0..10).for_each(|_| budget.record_call());
    budget.try_acquire().expect("one of six").send();
    let balance = Balance::new(BalancePolicy::default());
    balance.insert(EndpointInfo::new("10.0.0.1:80").weight(3).with_service(()));
    balance.insert(EndpointInfo::new("10.0.0.2:80").weight(1).with_service(()));
    balance.pick()?.record(Outcome::Success);
    diagnosis.register("budget", budget.downgrade());
    diagnosis.register("balance", balance.downgrade());

    let snapshot = json_of(&diagnosis);
    let told = &snapshot["budgets"][0];
    assert_eq!((&told["kind"], &told["calls"]), (&json!("ratio"), &json!(10)));
    assert_eq!((&told["allowed"], &told["left"]), (&json!(6), &json!(5.0)));
    let granted = std::iter::from_fn(|| budget.try_acquire()).take(100).collect::<Vec<_>>();
    assert_eq!(granted.len(), 5, "as many as it said");

    let endpoints = snapshot["balancers"][0]["endpoints"].as_array().unwrap();
    let shares: Vec<_> = endpoints.iter().map(|endpoint| &endpoint["share"]).collect();
    assert_eq!(shares, [0.75, 0.25]);
    let successes = endpoints.iter().map(|endpoint| endpoint["successes"].as_u64().unwrap());
    assert_eq!(successes.sum::<u64>(), 1);

    balance.pick()?.record(Outcome::Failure);
    let endpoints = &diagnosis.snapshot().balancers[0].endpoints;
    let mut states: Vec<_> = endpoints.iter().map(|endpoint| endpoint.state).collect();
    states.sort_unstable();
    assert_eq!(states, ["failing", "healthy"]);
    Ok(())
}

#[tokio::test]
async fn what_is_registered_is_not_kept_alive_and_is_forgotten_when_gone() {
    let diagnosis = Diagnosis::new();
    let weak = {
        let breaker = breaker("orders");
        diagnosis.register("a", breaker.downgrade());
        assert_eq!(diagnosis.snapshot().breakers.len(), 1);
        breaker.downgrade()
    };
    assert!(weak.upgrade().is_none());
    assert!(diagnosis.snapshot().breakers.is_empty());
    assert!(format!("{diagnosis:?}").contains("parts: 0"), "{diagnosis:?}");
}

#[tokio::test]
async fn parts_that_come_and_go_do_not_pile_up_where_nobody_looks() {
    let diagnosis = Diagnosis::new();
    for _ in 0..1_000 {
        diagnosis.register("a", breaker("short-lived").downgrade());
    }
    let told = format!("{diagnosis:?}");
    let parts: usize =
        told.split(|c: char| !c.is_ascii_digit()).find_map(|n| n.parse().ok()).unwrap();
    assert!(parts < 64, "{told}");
}

#[tokio::test]
async fn a_panel_of_very_many_keys_shows_those_in_trouble_and_says_how_many_it_leaves_out() {
    let diagnosis = Diagnosis::new();
    let panel = CircuitBreakerPanel::<u32>::new(CircuitBreakerPolicy::default());
    for key in 0..300 {
        let breaker = panel.breaker(&key);
        if key % 100 == 99 {
            breaker.force_open();
        }
    }
    diagnosis.register("methods", panel.downgrade());
    let snapshot = diagnosis.snapshot();
    assert_eq!((snapshot.breakers.len(), snapshot.left_out), (200, 100));
    let open = snapshot.breakers.iter().filter(|row| row.state == "forced_open");
    assert_eq!(open.count(), 3);
}

#[tokio::test]
async fn the_layers_tell_what_happened_and_a_flood_is_one_line() {
    let diagnosis = Diagnosis::with_events(NonZeroUsize::new(8).unwrap());
    let breaker = CircuitBreaker::builder(CircuitBreakerPolicy::default())
        .name("orders")
        .observe(diagnosis.clone())
        .build();
    breaker.force_open();
    for _ in 0..1_000 {
        breaker.try_acquire().unwrap_err();
    }
    diagnosis.observe("10.0.0.1:80", &BalanceEvent::NoEndpoint);
    let exhausted = RetryEvent::BudgetExhausted { kind: AttemptKind::Backup };
    diagnosis.observe("orders", &exhausted);

    let events = diagnosis.snapshot().events;
    let lines: Vec<_> =
        events.iter().map(|event| (event.source, event.kind, event.times, &*event.text)).collect();
    assert_eq!(
        lines,
        [
            ("circuitbreak", "state_changed", 1, "closed → forced open: by hand"),
            ("circuitbreak", "refused", 1_000, "refused a call: circuit forced open"),
            ("loadbalance", "no_endpoint", 1, "refused a call: there is no endpoint"),
            ("retry", "budget_exhausted", 1, "no backup: the budget is exhausted"),
        ]
    );
    assert_eq!((events[0].level, events[1].level), ("bad", "warning"));
}

#[tokio::test]
async fn calls_that_go_well_are_no_events() {
    let diagnosis = Diagnosis::new();
    let sent = RetryEvent::AttemptSent { number: 0, kind: AttemptKind::First, shadow: false };
    diagnosis.observe("orders", &sent);
    let ended = RetryEvent::AttemptEnded { number: 0, outcome: Outcome::Success };
    diagnosis.observe("orders", &ended);
    assert!(diagnosis.snapshot().events.is_empty());
}

#[tokio::test]
async fn the_page_is_one_file_that_may_run_only_what_it_holds() {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use sha2::{Digest, Sha256};

    let service = DiagnosisService::new(Diagnosis::new());
    let answer = ask(&service, Method::GET, "/").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let allowed = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    let page = text(answer).await;

    assert!(allowed.starts_with("default-src 'none'; connect-src 'self'; "), "{allowed}");
    assert!(!allowed.contains("unsafe"), "{allowed}");
    for tag in ["script", "style"] {
        let (_, rest) = page.split_once(&format!("<{tag}>")).expect("one");
        let (inside, after) = rest.split_once(&format!("</{tag}>")).expect("an end");
        assert!(!after.contains(&format!("<{tag}")), "only one {tag}");
        let hash = BASE64_STANDARD.encode(Sha256::digest(inside));
        let source = format!("{tag}-src 'sha256-{hash}';");
        assert!(allowed.contains(&source), "the page has changed; it needs {source}");
    }
    for elsewhere in ["http://", "https://", "src=", "@import", "url("] {
        let inside = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!inside.contains(elsewhere), "{elsewhere} asks for something else");
    }
    for parsed in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="]
    {
        assert!(!page.contains(parsed), "{parsed} would parse what is shown, or break the policy");
    }
}

#[tokio::test]
async fn a_key_that_is_markup_stays_text_in_json_and_in_the_stream() -> TestResult {
    let evil = "<script>alert(1)</script>\n\ndata: {}\r\u{2028}\"'&";
    let diagnosis = Diagnosis::new();
    let breaker = CircuitBreaker::builder(CircuitBreakerPolicy::default())
        .name(evil)
        .observe(diagnosis.clone())
        .build();
    diagnosis.register(evil, breaker.downgrade());
    breaker.force_open();
    let service = DiagnosisService::new(diagnosis);

    let answer = ask(&service, Method::GET, "/snapshot.json").await;
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let snapshot: Value = serde_json::from_str(&text(answer).await)?;
    assert_eq!(snapshot["breakers"][0]["key"], evil);
    assert_eq!(snapshot["events"][0]["key"], evil);

    // `event` checks that there are three lines: a key cannot break out of its line.
    let (name, told) = event(&mut ask(&service, Method::GET, "/events").await).await;
    assert_eq!((&*name, &told["breakers"][0]["key"]), ("snapshot", &json!(evil)));

    let page = text(ask(&service, Method::GET, "/").await).await;
    assert!(!page.contains("alert("), "the page itself holds no key");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_all_first_and_then_what_changed_at_a_steady_rate() {
    let diagnosis = Diagnosis::new();
    let (orders, stock) = (breaker("orders"), breaker("stock"));
    diagnosis.register("shop", orders.downgrade());
    diagnosis.register("shop", stock.downgrade());
    let service = DiagnosisService::new(diagnosis).every(Duration::from_millis(500));
    let mut stream = ask(&service, Method::GET, "/events").await;
    assert_eq!(stream.headers()[CONTENT_TYPE], "text/event-stream");

    let (name, told) = event(&mut stream).await;
    assert_eq!((&*name, told["breakers"].as_array().unwrap().len()), ("snapshot", 2));

    let before = tokio::time::Instant::now();
    orders.force_open();
    let (name, told) = event(&mut stream).await;
    assert_eq!(before.elapsed(), Duration::from_millis(500));
    assert_eq!(name, "delta");
    let changed = told["breakers"].as_array().unwrap();
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!(changed[0]["state"], "forced_open");

    drop(stock);
    let (_, told) = event(&mut stream).await;
    assert_eq!(told["gone"], json!(["1/stock"]));

    let (_, told) = event(&mut stream).await;
    assert_eq!(before.elapsed(), Duration::from_secs(6), "a sign of life after 5 s");
    assert_eq!((&told["breakers"], &told["gone"]), (&json!([]), &json!([])));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_happens_again_is_told_again_with_its_count() {
    let diagnosis = Diagnosis::new();
    let service = DiagnosisService::new(diagnosis.clone());
    diagnosis.observe("a", &BalanceEvent::NoEndpoint);
    let mut stream = ask(&service, Method::GET, "/events").await;
    event(&mut stream).await;
    diagnosis.observe("a", &BalanceEvent::NoEndpoint);
    diagnosis.observe("b", &BalanceEvent::Returned);
    let (_, told) = event(&mut stream).await;
    let news = told["events"].as_array().unwrap();
    let news: Vec<_> = news.iter().map(|event| (&event["number"], &event["times"])).collect();
    assert_eq!(news, [(&json!(0), &json!(2)), (&json!(1), &json!(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_a_minute_so_that_a_server_can_stop() {
    let service = DiagnosisService::new(Diagnosis::new());
    let stream = ask(&service, Method::GET, "/events").await;
    let before = tokio::time::Instant::now();
    stream.into_body().collect().await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(60));
}

#[tokio::test]
async fn only_so_many_may_listen_and_who_leaves_gives_the_place_back() {
    let service = DiagnosisService::new(Diagnosis::new()).streams(2);
    let first = ask(&service, Method::GET, "/events").await;
    let second = ask(&service.clone(), Method::GET, "/events").await;
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));

    let third = ask(&service, Method::GET, "/events").await;
    assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(third.headers().contains_key("retry-after"));
    assert_eq!(ask(&service, Method::GET, "/snapshot.json").await.status(), StatusCode::OK);

    drop(first);
    let fourth = ask(&service, Method::GET, "/events").await;
    assert_eq!(fourth.status(), StatusCode::OK);
    drop((second, fourth));
    assert_eq!(ask(&service, Method::HEAD, "/events").await.status(), StatusCode::OK);
    let free = [
        ask(&service, Method::GET, "/events").await,
        ask(&service, Method::GET, "/events").await,
        ask(&service, Method::GET, "/events").await,
    ];
    let status = free.each_ref().map(Response::status);
    assert_eq!(status, [StatusCode::OK, StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE]);
}

#[tokio::test]
async fn other_methods_and_other_paths_are_refused() {
    let service = DiagnosisService::new(Diagnosis::new()).allow_changes(TOKEN).unwrap();
    for path in ["/", "/snapshot.json", "/events"] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
            let answer = ask(&service, method, path).await;
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(answer.headers()[ALLOW], "GET, HEAD");
        }
        let answer = ask(&service, Method::HEAD, path).await;
        assert_eq!((answer.status(), text(answer).await.len()), (StatusCode::OK, 0));
    }
    let answer = ask(&service, Method::GET, "/control").await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()[ALLOW], "POST");
    for path in ["/index.html", "/events/", "/snapshot", "/../snapshot.json", "/control/x"] {
        let answer = ask(&service, Method::GET, path).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn nothing_can_be_changed_without_the_token() -> TestResult {
    let diagnosis = Diagnosis::new();
    let breaker = breaker("orders");
    diagnosis.register("shop", breaker.downgrade());
    let force = || json!({"part": 0, "key": "orders", "change": "force_open"});

    let reading = DiagnosisService::new(diagnosis.clone());
    assert_eq!(order(&reading, Some(TOKEN), force()).await.status(), StatusCode::FORBIDDEN);
    let service = DiagnosisService::new(diagnosis).allow_changes(TOKEN)?;
    for token in [None, Some(""), Some("another token of length"), Some(&TOKEN[1..])] {
        assert_eq!(order(&service, token, force()).await.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(order(&service, Some(TOKEN), force()).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(breaker.state(), State::ForcedOpen);

    let says = |answer: String| {
        serde_json::from_str::<Value>(&answer).unwrap()["allows_changes"] == json!(true)
    };
    assert!(says(text(ask(&service, Method::GET, "/snapshot.json").await).await));
    assert!(!says(text(ask(&reading, Method::GET, "/snapshot.json").await).await));
    Ok(())
}

#[tokio::test]
async fn who_has_the_token_can_force_reset_and_switch_off() -> TestResult {
    let diagnosis = Diagnosis::new();
    let breaker = breaker("orders");
    let limit = ConcurrencyLimit::builder(ConcurrencyLimitPolicy::builder().limit(1).build()?)
        .name("orders")
        .build();
    let budget = RetryBudget::default();
    diagnosis.register("breaker", breaker.downgrade());
    diagnosis.register("limit", limit.downgrade());
    diagnosis.register("budget", budget.downgrade());
    let service = DiagnosisService::new(diagnosis.clone()).allow_changes(TOKEN)?;
    let change = async |part: u64, key: &str, change: &str| {
        let told = json!({"part": part, "key": key, "change": change});
        order(&service, Some(TOKEN), told).await.status()
    };
    let enforcement = || breaker.policy().load().enforcement();

    assert_eq!(change(0, "orders", "force_open").await, StatusCode::NO_CONTENT);
    assert!(breaker.try_acquire().is_err());
    assert_eq!(change(0, "orders", "reset").await, StatusCode::NO_CONTENT);
    assert!(breaker.try_acquire().is_ok());
    assert_eq!(enforcement(), Enforcement::Enforced);
    assert_eq!(change(0, "orders", "force_open").await, StatusCode::NO_CONTENT);
    assert_eq!(change(0, "orders", "force_closed").await, StatusCode::NO_CONTENT);
    assert_eq!((breaker.state(), enforcement()), (State::Closed, Enforcement::Shadow));
    assert_eq!(change(0, "orders", "switch_off").await, StatusCode::NO_CONTENT);
    assert_eq!(enforcement(), Enforcement::Disabled);
    assert_eq!(change(0, "orders", "enforce").await, StatusCode::NO_CONTENT);
    assert_eq!(enforcement(), Enforcement::Enforced);

    let _inside = limit.try_acquire()?;
    assert!(limit.try_acquire().is_err());
    assert_eq!(change(1, "orders", "switch_off").await, StatusCode::NO_CONTENT);
    assert!(limit.try_acquire().is_ok());

    assert_eq!(change(1, "orders", "force_open").await, StatusCode::CONFLICT);
    assert_eq!(change(2, "", "switch_off").await, StatusCode::CONFLICT);
    assert_eq!(change(0, "stock", "reset").await, StatusCode::NOT_FOUND);
    assert_eq!(change(9, "orders", "reset").await, StatusCode::NOT_FOUND);
    assert_eq!(change(0, "orders", "explode").await, StatusCode::BAD_REQUEST);

    let events = diagnosis.snapshot().events;
    let by_hand: Vec<_> =
        events.iter().map(|event| (event.source, &*event.key, event.kind)).collect();
    assert_eq!(by_hand[0], ("by_hand", "orders", "force_open"));
    assert_eq!(by_hand.len(), 7);
    Ok(())
}

#[tokio::test]
async fn one_key_of_a_panel_can_be_switched_off_and_the_others_stay() -> TestResult {
    let diagnosis = Diagnosis::new();
    let panel = CircuitBreakerPanel::<String>::builder(CircuitBreakerPolicy::default())
        .prefix("shop")
        .build::<String>();
    let (orders, stock) = (panel.breaker(&"orders".to_owned()), panel.breaker(&"stock".to_owned()));
    diagnosis.register("methods", panel.downgrade());
    let service = DiagnosisService::new(diagnosis).allow_changes(TOKEN)?;
    let off = json!({"part": 0, "key": "shop/orders", "change": "switch_off"});
    assert_eq!(order(&service, Some(TOKEN), off).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(orders.policy().load().enforcement(), Enforcement::Disabled);
    assert_eq!(stock.policy().load().enforcement(), Enforcement::Enforced);
    Ok(())
}

#[tokio::test]
async fn a_panel_of_limits_is_switched_off_as_a_whole() -> TestResult {
    let diagnosis = Diagnosis::new();
    let policy = ConcurrencyLimitPolicy::builder().limit(1).build()?;
    let panel = ConcurrencyLimitPanel::<&str>::new(policy);
    let _inside = [panel.limit(&"a").try_acquire()?, panel.limit(&"b").try_acquire()?];
    diagnosis.register("methods", panel.downgrade());
    let service = DiagnosisService::new(diagnosis).allow_changes(TOKEN)?;
    let off = |key: &str| json!({"part": 0, "key": key, "change": "switch_off"});
    assert_eq!(order(&service, Some(TOKEN), off("c")).await.status(), StatusCode::NOT_FOUND);
    assert!(panel.limit(&"b").try_acquire().is_err());
    assert_eq!(order(&service, Some(TOKEN), off("a")).await.status(), StatusCode::NO_CONTENT);
    assert!(panel.limit(&"b").try_acquire().is_ok());
    Ok(())
}

#[tokio::test]
async fn an_order_that_cannot_be_understood_is_refused_and_a_long_one_is_not_read() -> TestResult {
    let service = DiagnosisService::new(Diagnosis::new()).allow_changes(TOKEN)?;
    for body in ["", "{", "[]", r#"{"part": 0}"#, r#"{"part": 0, "change": "reset", "x": 1}"#] {
        let answer = send(&service, Some(TOKEN), body.to_owned()).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
    }
    let long = format!(r#"{{"part": 0, "key": "{}", "change": "reset"}}"#, "a".repeat(5_000));
    let answer = send(&service, Some(TOKEN), long).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    Ok(())
}
