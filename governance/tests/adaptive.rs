//! The adaptive limit of a policy file, on a client and on a server.

use std::time::Duration;

use outrigger::{Format, Governance, PolicyKind, PolicySet};
use outrigger_core::{Enforcement, MethodRef, Rejection};
use outrigger_ratelimit::{AdaptiveLimitPolicy, ConcurrencyLimitPolicy, LimitAlgorithm};
use tokio::time::sleep;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const GET: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Get" };

fn set(text: &str) -> PolicySet {
    PolicySet::parse("policies.yaml", text, Format::Yaml).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(text: &str) -> String {
    PolicySet::parse("p.yaml", text, Format::Yaml).expect_err("refused").to_string()
}

fn adaptive(text: &str) -> AdaptiveLimitPolicy {
    *set(text).method(GET).adaptive_limit().expect("stated")
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a namer")]
fn namer<'a>(call: &'a &'static str) -> Option<MethodRef<'a>> {
    Some(MethodRef { service: "shop.Cart", method: call })
}

/// Answers `Slow` after an hour, `Fail` with a refusal of its own, and all else at once.
async fn answer(call: &'static str) -> Result<&'static str, BoxError> {
    match call {
        "Slow" => sleep(Duration::from_secs(3_600)).await,
        "Fail" => return Err("down".into()),
        _ => {}
    }
    Ok(call)
}

fn reason(error: &BoxError) -> &'static str {
    error.downcast_ref::<Rejection>().expect("a refusal").reason()
}

#[test]
fn every_form_of_an_adaptive_limit_means_the_same() {
    let vegas = |max_limit| AdaptiveLimitPolicy::builder().max_limit(max_limit).build().unwrap();
    assert_eq!(adaptive("defaults: {adaptive_limit: {}}"), AdaptiveLimitPolicy::default());
    for (name, algorithm) in [
        ("vegas", LimitAlgorithm::Vegas),
        ("gradient2", LimitAlgorithm::Gradient2),
        ("aimd", LimitAlgorithm::Aimd),
    ] {
        let policy = adaptive(&format!("defaults: {{adaptiveLimit: {name}}}"));
        assert_eq!(policy, AdaptiveLimitPolicy::builder().algorithm(algorithm).build().unwrap());
    }
    for text in [
        "defaults: {adaptive_limit: {max_limit: 200}}",
        "defaults: {adaptive_limit: {maxConcurrentCalls: 200}}",
        "defaults: {concurrencyLimit: {algorithm: vegas, maxConcurrentCalls: 200}}",
        "defaults: {concurrency_limit: {algorithm: vegas, limit: 200}}",
    ] {
        assert_eq!(adaptive(text), vegas(200), "{text}");
        assert!(set(text).method(GET).concurrency_limit().is_none(), "{text}");
    }
}

#[test]
fn of_a_fixed_and_an_adaptive_limit_the_more_exact_scopes_counts() {
    let set = set("
defaults: {concurrency_limit: 100}
services:
  shop.Cart:
    adaptive_limit: {max_limit: 50}
    methods:
      Put: {concurrency_limit: 7}
      Off: {adaptive_limit: off}
      Less: {adaptive_limit: {min_limit: 3}}
server: {adaptive_limit: aimd}
");
    let of = |service, method| {
        let policy = set.method(MethodRef { service, method });
        (
            policy.concurrency_limit().map(ConcurrencyLimitPolicy::limit),
            policy.adaptive_limit().map(AdaptiveLimitPolicy::max_limit),
        )
    };
    assert_eq!(of("other", "Get"), (Some(100), None));
    assert_eq!(of("shop.Cart", "Get"), (None, Some(50)));
    assert_eq!(of("shop.Cart", "Put"), (Some(7), None));
    assert_eq!(of("shop.Cart", "Off"), (None, None));
    let less = set.method(MethodRef { service: "shop.Cart", method: "Less" });
    let less = less.adaptive_limit().unwrap();
    assert_eq!((less.min_limit(), less.max_limit()), (3, 50), "merged field by field");
    assert_eq!(set.server().adaptive_limit().unwrap().algorithm(), LimitAlgorithm::Aimd);
    for scope in ["defaults", "server"] {
        let said = refused(&format!("{scope}: {{concurrency_limit: 7, adaptive_limit: {{}}}}"));
        let expected = "`adaptive_limit` stands beside `concurrency_limit`; state one of them";
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn an_impossible_adaptive_limit_is_refused_with_its_place() {
    for (text, expected) in [
        (
            "defaults:\n  adaptive_limit: {max_limit: 10}\n",
            "p.yaml:2:19: `defaults.adaptive_limit.initial_limit` is 20; it must be from `min_limit`",
        ),
        (
            "defaults:\n  adaptive_limit: bbr\n",
            "p.yaml:2:19: `defaults.adaptive_limit` is \"bbr\"; it must be one of `vegas`",
        ),
        (
            "defaults:\n  adaptive_limit: {maxlimit: 10}\n",
            "p.yaml:2:20: `defaults.adaptive_limit.maxlimit` is no setting here (did you mean `max_limit`?)",
        ),
        (
            "server:\n  adaptive_limit: {min_window: 0s}\n",
            "p.yaml:2:32: `server.adaptive_limit.min_window` is \"0s\"; it must be from 1ms to 1h",
        ),
    ] {
        let said = refused(text);
        assert!(said.starts_with(expected), "{said}\nexpected {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_refuses_beyond_the_limit_that_it_found() {
    let text = "defaults: {adaptive_limit: {initial_limit: 2, max_limit: 2}}";
    let governance = Governance::new(set(text));
    let client = governance.client(namer).layer(service_fn(answer));
    let calls = || client.clone().oneshot("Slow");
    let mut running = [tokio_test::task::spawn(calls()), tokio_test::task::spawn(calls())];
    for call in &mut running {
        assert!(call.poll().is_pending());
    }
    let error = calls().await.expect_err("both places are taken");
    assert_eq!(reason(&error), "limit_reached");
    drop(running);
    assert_eq!(client.oneshot("Slow").await.expect("given back"), "Slow");
}

#[tokio::test(start_paused = true)]
async fn a_callee_that_fails_lowers_the_limit_and_a_waiting_call_gets_the_next_place() {
    let policies = "
defaults:
  adaptive_limit:
    {algorithm: aimd, initial_limit: 10, min_samples: 1, min_window: 1ms, max_waiting: 1, max_wait: 2h}
";
    let governance = Governance::new(set(policies));
    let client = governance.client(namer).layer(service_fn(answer));
    let limit = governance.method(MethodRef { service: "shop.Cart", method: "Fail" });
    let limit = limit.adaptive_limit().expect("stated").clone();
    while limit.status().limit > 1 {
        client.clone().oneshot("Fail").await.expect_err("fails");
        sleep(Duration::from_millis(5)).await;
    }
    // Another method has a limit of its own.
    assert_eq!(governance.method(GET).adaptive_limit().unwrap().status().limit, 10);

    let text = policies.replace("initial_limit: 10", "initial_limit: 1, max_limit: 1");
    governance.replace(set(&text));
    let first = tokio_test::task::spawn(client.clone().oneshot("Slow"));
    let second = tokio_test::task::spawn(client.clone().oneshot("Slow"));
    let [mut first, mut second] = [first, second];
    assert!(first.poll().is_pending() && second.poll().is_pending());
    let slow = governance.method(MethodRef { service: "shop.Cart", method: "Slow" });
    assert_eq!(slow.adaptive_limit().unwrap().status().waiting, 1);
    client.clone().oneshot("Slow").await.expect_err("the queue is full");
    assert_eq!(first.await.expect("an answer"), "Slow");
    assert_eq!(second.await.expect("a place, then an answer"), "Slow");
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_was_learnt_and_a_switch_costs_no_state() {
    let text = "defaults: {adaptive_limit: {algorithm: aimd, initial_limit: 20, min_window: 1ms, min_samples: 1}}";
    let governance = Governance::new(set(text));
    let client = governance.client(namer).layer(service_fn(answer));
    let limit = || {
        let state = governance.method(MethodRef { service: "shop.Cart", method: "Fail" });
        let limit = state.adaptive_limit().expect("stated");
        (limit.status().limit, limit.policy().load().enforcement())
    };
    for _ in 0..3 {
        client.clone().oneshot("Fail").await.expect_err("fails");
        sleep(Duration::from_millis(5)).await;
    }
    let (learnt, _) = limit();
    assert!(learnt < 20, "{learnt}");
    governance.replace(set(&text.replace("min_samples: 1", "min_samples: 2")));
    assert_eq!(limit(), (learnt, Enforcement::Enforced));

    for enforcement in [Enforcement::Disabled, Enforcement::Shadow] {
        governance.switch(None, Some(PolicyKind::AdaptiveLimit), Some(enforcement));
        assert_eq!(limit(), (learnt, enforcement));
    }
    governance.switch(None, Some(PolicyKind::AdaptiveLimit), None);
    assert_eq!(limit(), (learnt, Enforcement::Enforced));

    // A policy that is gone takes what was learnt along.
    governance.replace(set("defaults: {concurrency_limit: 5}"));
    assert!(governance.method(GET).adaptive_limit().is_none());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_disabled_lets_everything_pass_and_counts_nothing() {
    let text =
        "defaults: {adaptive_limit: {initial_limit: 1, max_limit: 1, enforcement: disabled}}";
    let governance = Governance::new(set(text));
    let client = governance.client(namer).layer(service_fn(answer));
    let call = || tokio_test::task::spawn(client.clone().oneshot("Slow"));
    let mut running = [call(), call(), call()];
    for call in &mut running {
        assert!(call.poll().is_pending());
    }
    let slow = governance.method(MethodRef { service: "shop.Cart", method: "Slow" });
    assert_eq!(slow.adaptive_limit().unwrap().status().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_has_one_for_all_methods_and_one_for_each() {
    let text = "
server: {adaptive_limit: {initial_limit: 2, max_limit: 2}}
services:
  shop.Cart: {methods: {Slow: {adaptive_limit: {initial_limit: 1, max_limit: 1}}}}
";
    let governance = Governance::new(set(text));
    let server = governance.server(namer).layer(service_fn(answer));
    let mut first = tokio_test::task::spawn(server.clone().oneshot("Slow"));
    assert!(first.poll().is_pending());
    let error = server.clone().oneshot("Slow").await.expect_err("the method's place is taken");
    assert_eq!(reason(&error), "limit_reached");
    assert_eq!(server.clone().oneshot("Get").await.expect("the server has another"), "Get");

    // The server's own follows a reload, and shadow lets all pass.
    let narrower = text.replace("initial_limit: 2, max_limit: 2", "initial_limit: 1, max_limit: 1");
    governance.replace(set(&narrower));
    let error = server.clone().oneshot("Get").await.expect_err("the server's only place is taken");
    assert_eq!(reason(&error), "limit_reached");
    governance.replace(set(&narrower.replacen(
        "max_limit: 1",
        "max_limit: 1, enforcement: shadow",
        1,
    )));
    assert_eq!(server.oneshot("Get").await.expect("only told"), "Get");
}

/// Counts what 100 calls allocate whose answer is there at once.
fn allocations(text: &str) -> u64 {
    let governance = Governance::new(set(text));
    let answer = service_fn(|call: &'static str| std::future::ready(Ok::<_, Rejection>(call)));
    let mut client = governance.client(namer).layer(answer);
    let mut call = || {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(client.poll_ready(&mut cx).is_ready());
        let call = std::pin::pin!(client.call("Get"));
        assert!(call.poll(&mut cx).is_ready());
    };
    call();
    allocation_counter::measure(|| (0..100).for_each(|_| call())).count_total
}

#[test]
fn a_call_under_an_adaptive_limit_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _time = runtime.enter();
    // One that never ends its window meanwhile: what a window costs is no part of a call.
    assert_eq!(allocations("defaults: {adaptive_limit: {min_window: 30s}}"), 0);
    assert_eq!(allocations("defaults: {adaptive_limit: {enforcement: disabled}}"), 0);
}
