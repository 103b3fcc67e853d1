//! What a user sees: picking, failing over, counting, joining and leaving.
#![expect(clippy::cast_precision_loss, reason = "a test's own figures and helpers")]

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use outrigger_core::{AttemptContext, CarryContext, Enforcement, Outcome, Tried};
use outrigger_loadbalance::{
    Balance, BalanceEvent, BalanceService, Candidates, EjectionPolicy, Endpoint, EndpointInfo,
    EndpointState, HashKey, Pick, PickEntry, Picker, WithoutKey,
};
use support::{Does, Log, World, policy, reason};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{BoxError, Service};

fn service(balance: &Balance<support::Host>) -> BalanceService<support::Host> {
    BalanceService::new(balance.clone())
}

fn call(service: &mut BalanceService<support::Host>) -> Result<&'static str, BoxError> {
    let mut call = task::spawn(service.call(()));
    assert_ready!(call.poll())
}

fn all_pickers() -> Vec<Picker> {
    vec![
        Picker::WeightedRandom,
        Picker::RoundRobin,
        Picker::SmoothWeightedRoundRobin,
        Picker::least_pending(),
        Picker::peak_ewma(),
        Picker::reported(),
        Picker::consistent_hash(),
        Picker::bounded_consistent_hash(),
        Picker::maglev(),
        Picker::PickFirst { shuffle: false },
    ]
}

fn in_flight(balance: &Balance<support::Host>) -> u64 {
    balance.status().endpoints.iter().map(|endpoint| endpoint.in_flight).sum()
}

// ---- who can be picked ----

#[tokio::test(start_paused = true)]
async fn nobody_to_ask_is_a_clear_refusal_with_every_picker() {
    for picker in all_pickers() {
        let world = World::default();
        let log = Log::default();
        let balance = log.attach(world.balance(policy().picker(picker.clone()), &[]));
        let error = call(&mut service(&balance)).unwrap_err();
        assert_eq!(reason(&error), "no_endpoint", "{picker:?}");
        balance.insert(world.endpoint("a").weight(0));
        balance.insert(world.endpoint("b").weight(0));
        let error = call(&mut service(&balance)).unwrap_err();
        assert_eq!(reason(&error), "no_endpoint", "{picker:?}");
        assert_eq!(log.count(|event| matches!(event, BalanceEvent::NoEndpoint)), 2);
        assert_eq!(world.all_calls(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn weight_0_is_never_picked_and_a_single_endpoint_always() {
    for picker in all_pickers() {
        let world = World::default();
        let balance = world.balance(policy().picker(picker.clone()), &["only"]);
        balance.insert(world.endpoint("nought").weight(0));
        let mut service = service(&balance).clone();
        for key in 0..1_000_u64 {
            let mut keyed = BalanceService::new(balance.clone())
                .hash_by(move |(): &()| Some(HashKey::of(key.to_le_bytes())));
            if key < 50 {
                assert_eq!(assert_ready_ok!(task::spawn(keyed.call(())).poll()), "only");
            }
            assert_eq!(call(&mut service).unwrap(), "only", "{picker:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_key_is_refused_when_the_policy_says_so() {
    let world = World::default();
    let picker = Picker::Maglev { table_size: 65_537, without_key: WithoutKey::Refuse };
    let balance = world.balance(policy().picker(picker), &["a"]);
    assert_eq!(reason(&call(&mut service(&balance)).unwrap_err()), "no_hash_key");
    assert_eq!(in_flight(&balance), 0);
}

// ---- connection failover ----

#[tokio::test(start_paused = true)]
async fn a_call_whose_endpoint_refuses_the_connection_goes_on_to_another() {
    for picker in all_pickers() {
        let world = World::default();
        let log = Log::default();
        let balance = log.attach(world.balance(policy().picker(picker.clone()), &["bad", "good"]));
        world.set("bad", Does::RefuseConnection);
        let mut service = service(&balance);
        for _ in 0..20 {
            assert_eq!(call(&mut service).unwrap(), "good", "{picker:?}");
        }
        assert_eq!(world.calls("bad"), 0, "nothing was sent to it");
        assert_eq!(in_flight(&balance), 0);
        assert!(log.count(|event| matches!(event, BalanceEvent::ConnectFailed { .. })) > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn failover_picks_distinct_endpoints_up_to_its_limit_and_gives_the_last_error() {
    let world = World::default();
    let names = ["a", "b", "c", "d", "e"];
    let picker = Picker::consistent_hash();
    let balance = world.balance(policy().picker(picker).ejection(None), &names);
    for name in names {
        world.set(name, Does::RefuseConnection);
    }
    let mut service =
        BalanceService::new(balance.clone()).hash_by(|(): &()| Some(HashKey::of("key")));
    let error = assert_ready_err!(task::spawn(service.call(())).poll());
    assert_eq!(error.to_string(), "connection refused");
    let polled: Vec<u64> = names.iter().map(|name| world.ready_polls(name)).collect();
    assert_eq!(polled.iter().sum::<u64>(), 3, "one pick and two more");
    assert!(polled.iter().all(|polls| *polls <= 1), "none twice: {polled:?}");
    assert_eq!(in_flight(&balance), 0);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_becomes_ready_wedges_no_call() {
    let world = World::default();
    let log = Log::default();
    let builder = policy().picker(Picker::RoundRobin).connect_timeout(Duration::from_millis(300));
    let balance = log.attach(world.balance(builder, &["good", "stuck"]));
    world.set("stuck", Does::NeverReady);
    for _ in 0..4 {
        let began = tokio::time::Instant::now();
        let answer = service(&balance).call(()).await.unwrap();
        assert_eq!(answer, "good");
        assert!(began.elapsed() <= Duration::from_millis(301));
    }
    let timed_out =
        |event: &BalanceEvent| *event == BalanceEvent::ConnectFailed { timed_out: true };
    assert!(log.count(timed_out) >= 1);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_becomes_ready_the_refusal_says_that_nothing_was_sent() {
    let world = World::default();
    let balance = world.balance(policy(), &["stuck"]);
    world.set("stuck", Does::NeverReady);
    let mut call = task::spawn(service(&balance).call(()));
    assert_pending!(call.poll());
    assert_eq!(in_flight(&balance), 1);
    tokio::time::advance(Duration::from_millis(1_001)).await;
    assert!(call.is_woken());
    let error = assert_ready_err!(call.poll());
    assert_eq!(reason(&error), "connect_timeout");
    assert!(!outrigger_core::Rejection::find(&*error).unwrap().was_sent());
    assert_eq!(in_flight(&balance), 0);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_an_endpoint_does_not_spin() {
    let world = World::default();
    let balance = world.balance(policy(), &["stuck"]);
    world.set("stuck", Does::NeverReady);
    let mut call = task::spawn(service(&balance).call(()));
    assert_pending!(call.poll());
    assert!(!call.is_woken());
    assert!(world.ready_polls("stuck") <= 2);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_removed_while_it_is_awaited_gets_no_call() {
    let world = World::default();
    let balance = world.balance(policy(), &["slow"]);
    world.set("slow", Does::NeverReady);
    let mut call = task::spawn(service(&balance).call(()));
    assert_pending!(call.poll());
    balance.replace([world.endpoint("new")]);
    world.set("slow", Does::Answer);
    assert_eq!(assert_ready_ok!(call.poll()), "new");
    assert_eq!(world.calls("slow"), 0);
}

// ---- attempts of one logical call ----

struct Attempt(AttemptContext);

#[derive(Clone)]
struct InAttempt;

impl CarryContext<Attempt> for InAttempt {
    fn context<'a>(&self, request: &'a Attempt) -> Option<&'a AttemptContext> {
        Some(&request.0)
    }

    fn set_context(&self, request: &mut Attempt, context: AttemptContext) {
        request.0 = context;
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_of_one_call_go_to_distinct_endpoints_until_all_were_tried() {
    for picker in all_pickers() {
        let world = World::default();
        let names = ["a", "b", "c", "d"];
        let balance = world.balance(policy().picker(picker.clone()), &names);
        let mut service = BalanceService::new(balance)
            .carry(InAttempt)
            .hash_by(|_: &Attempt| Some(HashKey::of("one key")));
        for _ in 0..20 {
            let mut context = AttemptContext::default();
            context.tried = Some(Tried::new());
            let mut met = Vec::new();
            for _ in 0..4 {
                let mut call = task::spawn(service.call(Attempt(context.clone())));
                met.push(assert_ready_ok!(call.poll()));
            }
            met.sort_unstable();
            assert_eq!(met, names, "{picker:?}");
            let mut fifth = task::spawn(service.call(Attempt(context)));
            assert_ready_ok!(fifth.poll());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn second_picks_keep_the_proportions_of_the_weights_that_are_left() {
    let world = World::default();
    let balance = world.balance(policy().picker(Picker::WeightedRandom), &[]);
    for (name, weight) in [("tried", 1_000_000), ("one", 1), ("two", 2), ("seven", 7)] {
        balance.insert(world.endpoint(name).weight(weight));
    }
    let mut service = BalanceService::new(balance).carry(InAttempt);
    let mut tried = AttemptContext::default();
    tried.tried = Some(Tried::new());
    while world.calls("tried") == 0 {
        tried.tried = Some(Tried::new());
        assert_ready_ok!(task::spawn(service.call(Attempt(tried.clone()))).poll());
    }
    world.forget();
    for _ in 0..20_000 {
        let mut context = AttemptContext::default();
        let list = Tried::new();
        list.note(HashKey::of("tried").get());
        context.tried = Some(list);
        assert_ready_ok!(task::spawn(service.call(Attempt(context))).poll());
    }
    assert_eq!(world.calls("tried"), 0);
    for (name, share) in [("one", 0.1), ("two", 0.2), ("seven", 0.7)] {
        let expected = share * 20_000.0;
        let deviation = f64::sqrt(expected * (1.0 - share));
        let calls = world.calls(name) as f64;
        assert!((calls - expected).abs() < 4.0 * deviation, "{name}: {calls} of {expected}");
    }
}

// ---- shares ----

/// The chi-square statistic of picks against weights must not be beyond its 99.9 % quantile.
#[test]
fn random_picks_are_proportional_to_weights_by_chi_square() {
    let world = World::default();
    let balance = world.balance(policy().picker(Picker::WeightedRandom), &[]);
    let weights = [("a", 1_u32), ("b", 2), ("c", 3), ("d", 10), ("e", 84), ("f", 0)];
    for (name, weight) in weights {
        balance.insert(world.endpoint(name).weight(weight));
    }
    let mut service = service(&balance);
    let calls = 100_000.0;
    (0..100_000).for_each(|_| drop(call(&mut service)));
    let chi_square: f64 = weights
        .iter()
        .filter(|(_, weight)| *weight > 0)
        .map(|(name, weight)| {
            let expected = calls * f64::from(*weight) / 100.0;
            (world.calls(name) as f64 - expected).powi(2) / expected
        })
        .sum();
    assert!(chi_square < 18.47, "{chi_square}, 4 degrees of freedom");
    assert_eq!(world.calls("f"), 0);
}

#[test]
fn round_robin_visits_all_before_any_again() {
    let world = World::default();
    let names = ["a", "b", "c", "d", "e"];
    let balance = world.balance(policy().picker(Picker::RoundRobin), &names);
    let mut service = service(&balance);
    for round in 1..=20 {
        (0..5).for_each(|_| drop(call(&mut service)));
        assert!(names.iter().all(|name| world.calls(name) == round));
    }
}

#[test]
fn pick_first_stays_with_one_until_it_cannot_be_used() {
    let world = World::default();
    for shuffle in [false, true] {
        let mut firsts = Vec::new();
        for seed in 0..40 {
            let builder = policy().picker(Picker::PickFirst { shuffle }).seed(seed);
            let balance = Balance::new(builder.build().unwrap());
            balance.replace(["c", "a", "b", "d"].map(|name| world.endpoint(name)));
            // Each time those before are left out.
            let order = || {
                let tried = Tried::new();
                let picks = balance.replicas(HashKey::of("any"), &tried);
                picks.map(|picked| picked.key().to_owned()).collect::<Vec<_>>()
            };
            let before = order();
            assert_eq!(before.len(), 4);
            if !shuffle {
                assert_eq!(before, ["a", "b", "c", "d"]);
            }
            balance.insert(world.endpoint("b").weight(7));
            balance.insert(world.endpoint("e"));
            let mut after = order();
            after.retain(|name| name != "e");
            assert_eq!(after, before, "nobody is moved by others");
            firsts.extend(before.into_iter().next());
        }
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), if shuffle { 4 } else { 1 }, "each balancer draws for itself");
    }
}

#[test]
fn smooth_round_robin_is_exact() {
    let world = World::default();
    let balance = world.balance(policy().picker(Picker::SmoothWeightedRoundRobin), &[]);
    for (name, weight) in [("a", 10), ("b", 20), ("c", 30)] {
        balance.insert(world.endpoint(name).weight(weight));
    }
    let mut service = service(&balance);
    (0..3_000).for_each(|_| drop(call(&mut service)));
    assert_eq!(["a", "b", "c"].map(|name| world.calls(name)), [500, 1_000, 1_500]);
}

#[test]
fn an_endpoint_that_is_left_out_does_not_double_its_neighbours_share() {
    let world = World::default();
    let names = ["a", "b", "c", "d", "e"];
    let balance = world.balance(policy().picker(Picker::RoundRobin), &names);
    let mut service = BalanceService::new(balance).carry(InAttempt);
    for _ in 0..5_000 {
        let mut context = AttemptContext::default();
        let list = Tried::new();
        list.note(HashKey::of("c").get());
        context.tried = Some(list);
        assert_ready_ok!(task::spawn(service.call(Attempt(context))).poll());
    }
    for name in ["a", "b", "d", "e"] {
        assert!((1_150..=1_350).contains(&world.calls(name)), "{name}: {}", world.calls(name));
    }
}

#[test]
fn the_less_loaded_of_two_is_picked_and_weights_count() {
    let world = World::default();
    let balance = world.balance(policy().picker(Picker::least_pending()), &[]);
    balance.insert(world.endpoint("big").weight(3));
    balance.insert(world.endpoint("small"));
    world.set("big", Does::Hang);
    world.set("small", Does::Hang);
    let mut service = service(&balance);
    let mut calls: Vec<_> = (0..40).map(|_| task::spawn(service.call(()))).collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    let pending: Vec<u64> =
        balance.status().endpoints.iter().map(|endpoint| endpoint.in_flight).collect();
    assert_eq!(pending.iter().sum::<u64>(), 40);
    assert!((28..=32).contains(&pending[0]), "{pending:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fast_failing_endpoint_does_not_attract_calls() {
    for picker in [Picker::least_pending(), Picker::peak_ewma()] {
        let world = World::default();
        let names = ["bad", "b", "c", "d"];
        let balance = world.balance(policy().picker(picker.clone()).ejection(None), &names);
        world.set("bad", Does::Fail);
        let mut service = service(&balance);
        for _ in 0..2_000 {
            drop(call(&mut service));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(world.calls("bad") < 20, "{picker:?}: {} of 2000", world.calls("bad"));
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_calls_do_not_count_as_fast() {
    let world = World::default();
    let names = ["hangs", "answers"];
    let balance = world.balance(policy().picker(Picker::peak_ewma()), &names);
    world.set("hangs", Does::Hang);
    let mut service = service(&balance);
    for _ in 0..200 {
        // "answers" takes 10 ms; a call to "hangs" is cancelled after 30 ms.
        let mut call = task::spawn(service.call(()));
        tokio::time::advance(Duration::from_millis(10)).await;
        if call.poll().is_pending() {
            tokio::time::advance(Duration::from_millis(20)).await;
        }
    }
    assert!(world.calls("hangs") < 50, "{} of 200", world.calls("hangs"));
    let status = &balance.status().endpoints;
    assert_eq!((status[1].in_flight, status[1].successes, status[1].failures), (0, 0, 0));
}

// ---- counting ----

#[test]
fn a_call_is_counted_until_it_ends_or_is_dropped_at_any_point() {
    let world = World::default();
    let balance = world.balance(policy(), &["a"]);
    world.set("a", Does::Hang);
    let mut service = service(&balance);
    let not_polled = service.call(());
    let mut polled = task::spawn(service.call(()));
    assert_pending!(polled.poll());
    assert_eq!(in_flight(&balance), 2);
    drop(not_polled);
    assert_eq!(in_flight(&balance), 1);
    drop(polled);
    assert_eq!(in_flight(&balance), 0);
}

#[test]
fn a_panicking_endpoint_strands_nothing() {
    let world = World::default();
    let balance = world.balance(policy(), &["a"]);
    world.set("a", Does::PanicInCall);
    let mut service = service(&balance);
    catch_unwind(AssertUnwindSafe(|| drop(service.call(())))).unwrap_err();
    assert_eq!(in_flight(&balance), 0);
    world.set("a", Does::Answer);
    assert_eq!(call(&mut service).unwrap(), "a");
}

#[test]
fn the_future_holds_nothing_once_it_is_over() {
    let world = World::default();
    let balance = world.balance(policy(), &["a"]);
    let mut call = task::spawn(service(&balance).call(()));
    assert_ready_ok!(call.poll());
    assert_eq!(in_flight(&balance), 0, "while the finished future is still there");
}

#[test]
fn without_tower_an_endpoint_is_picked_and_told_the_outcome() {
    let balance = Balance::new(policy().picker(Picker::maglev()).build().unwrap());
    balance.replace([Endpoint::new("a", "service of a")]);
    let mut picked = balance.pick_by(HashKey::of("key")).unwrap();
    assert_eq!(picked.key(), "a");
    assert_eq!(*picked.service(), "service of a");
    picked.record(Outcome::Failure);
    drop(balance.pick().unwrap());
    let status = &balance.status().endpoints[0];
    assert_eq!((status.successes, status.failures, status.in_flight), (0, 1, 0));
    assert_eq!(status.success_rate(), Some(0.0));
}

// ---- joining and leaving ----

#[test]
fn a_removed_endpoint_finishes_its_calls_and_gets_no_new_one() {
    let world = World::default();
    let log = Log::default();
    let balance = log.attach(world.balance(policy(), &["old"]));
    world.set("old", Does::Hang);
    let mut running = task::spawn(service(&balance).call(()));
    assert_pending!(running.poll());
    log.take();
    balance.insert(world.endpoint("new"));
    balance.remove("old");
    let mut service = service(&balance);
    for _ in 0..50 {
        assert_eq!(call(&mut service).unwrap(), "new");
    }
    let told = log.take();
    assert!(told.contains(&("old".into(), BalanceEvent::Removed { in_flight: 1 })), "{told:?}");
    assert_eq!(world.calls("old"), 1);
    drop(running);
    assert_eq!(log.take(), [("old".to_owned(), BalanceEvent::Drained)]);
}

#[test]
fn an_endpoint_removed_in_the_very_moment_of_its_pick_gets_no_call() {
    /// Picks the first, and lets something happen just then.
    struct First(Vec<PickEntry>, Arc<Mutex<Option<Balance<&'static str>>>>);

    impl Pick for First {
        fn pick(&self, candidates: &mut Candidates<'_>) -> Option<u32> {
            let removing = self.1.lock().unwrap().take();
            if let Some(balance) = removing {
                balance.remove("a");
            }
            self.0.iter().map(|entry| entry.index).find(|index| candidates.is_usable(*index))
        }
    }

    let removing = Arc::new(Mutex::new(None));
    let shared = Arc::clone(&removing);
    let picker = Picker::custom(move |entries: &[PickEntry]| {
        Box::new(First(entries.to_vec(), Arc::clone(&shared))) as Box<dyn Pick>
    });
    let log = Log::default();
    let balance = log.attach(Balance::new(policy().picker(picker).build().unwrap()));
    balance.replace(["a", "b"].map(|key| Endpoint::new(key, key)));
    *removing.lock().unwrap() = Some(balance.clone());
    assert_eq!(balance.pick().unwrap().key(), "b");
    assert_eq!(log.count(|event| *event == BalanceEvent::Drained), 1);
}

#[test]
fn calls_that_found_nobody_to_connect_do_not_loosen_a_bound() {
    let world = World::default();
    let builder = policy().picker(Picker::bounded_consistent_hash()).ejection(None);
    let balance = world.balance(builder.failover_picks(5), &["a", "b"]);
    let mut service =
        BalanceService::new(balance.clone()).hash_by(|(): &()| Some(HashKey::of("key")));
    for name in ["a", "b"] {
        world.set(name, Does::RefuseConnection);
    }
    for _ in 0..100 {
        assert_ready_err!(task::spawn(service.call(())).poll());
    }
    for name in ["a", "b"] {
        world.set(name, Does::Hang);
    }
    let calls: Vec<_> = (0..10).map(|_| service.call(())).collect();
    let most = balance.status().endpoints.iter().map(|endpoint| endpoint.in_flight).max();
    assert!(most.unwrap() <= 7, "{most:?} of {}, bound 1.25", calls.len());
}

#[test]
fn an_update_keeps_who_stays_and_takes_over_weights() {
    let world = World::default();
    let log = Log::default();
    let balance = log.attach(world.balance(policy(), &["1", "2", "3", "4"]));
    drop(call(&mut service(&balance)));
    let counted: u64 = balance.status().endpoints.iter().map(|status| status.successes).sum();
    assert_eq!(counted, 1);
    log.take();
    let infos = [("1", 1), ("2", 1), ("3", 20), ("5", 1)]
        .map(|(key, weight)| EndpointInfo::new(key).weight(weight));
    balance.update(&infos, |info| {
        assert_eq!(info.key(), "5", "only for the new one");
        world.host("5")
    });
    let mut told = log.take();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("3", BalanceEvent::Reweighted { weight: 20 }),
        ("4", BalanceEvent::Removed { in_flight: 0 }),
        ("4", BalanceEvent::Drained),
        ("5", BalanceEvent::Added { weight: 1 }),
    ];
    assert_eq!(told, expected.map(|(key, event)| (key.to_owned(), event)));
    assert_eq!(balance.status().endpoints.len(), 4);
}

#[test]
fn an_endpoint_that_comes_back_starts_afresh() {
    let world = World::default();
    let rules = EjectionPolicy::builder().consecutive_failures(1).build().unwrap();
    let balance = world.balance(policy().picker(Picker::RoundRobin).ejection(rules), &["a", "b"]);
    world.set("a", Does::Fail);
    let mut service = service(&balance);
    (0..4).for_each(|_| drop(call(&mut service)));
    assert!(matches!(balance.status().endpoints[0].state, EndpointState::Ejected { .. }));
    balance.remove("a");
    balance.insert(world.endpoint("a"));
    let status = &balance.status().endpoints[0];
    assert_eq!((status.state, status.failures), (EndpointState::Healthy, 0));
    // And the one before it does not count against the cap.
    world.set("b", Does::Fail);
    (0..4).for_each(|_| drop(call(&mut service)));
    let others = balance.status().endpoints;
    assert!(others.iter().any(|other| matches!(other.state, EndpointState::Ejected { .. })));
}

// ---- settings ----

#[tokio::test(start_paused = true)]
async fn replaced_settings_hold_from_the_next_call_and_the_picker_after_a_refresh() {
    let world = World::default();
    let balance = world.balance(policy().picker(Picker::RoundRobin), &["a", "b"]);
    world.set("a", Does::RefuseConnection);
    world.set("b", Does::RefuseConnection);
    let refuse = Picker::Maglev { table_size: 65_537, without_key: WithoutKey::Refuse };
    let replaced = policy().picker(refuse).failover_picks(0).build().unwrap();
    balance.policy().replace(replaced);
    let mut service = service(&balance);
    assert_eq!(call(&mut service).unwrap_err().to_string(), "connection refused");
    assert_eq!(world.ready_polls("a") + world.ready_polls("b"), 1, "no second pick");
    balance.refresh();
    assert_eq!(reason(&call(&mut service).unwrap_err()), "no_hash_key");
}

#[test]
fn an_observer_may_use_the_balancer_that_tells_it() {
    let world = World::default();
    let balance = world.balance(policy(), &["a"]);
    let inner = balance.clone();
    let balance = balance.observe(move |_: &str, _: &BalanceEvent| {
        let _status = inner.status();
        inner.reweight([("a", 2)]);
        inner.sweep();
    });
    balance.insert(world.endpoint("b"));
    assert_eq!(balance.status().endpoints[0].weight, 2);
}

#[test]
fn disabled_governance_ejects_nobody_and_shadow_only_says_so() {
    for enforcement in [Enforcement::Disabled, Enforcement::Shadow] {
        let world = World::default();
        let log = Log::default();
        let builder = policy().picker(Picker::RoundRobin).enforcement(enforcement);
        let balance = log.attach(world.balance(builder, &["a", "b"]));
        world.set("a", Does::Fail);
        let mut service = service(&balance);
        (0..100).for_each(|_| drop(call(&mut service)));
        assert_eq!(world.calls("a"), 50, "{enforcement:?} re-routes nothing");
        let ejected =
            |event: &BalanceEvent| matches!(event, BalanceEvent::Ejected { enforced: false, .. });
        assert_eq!(log.count(ejected), usize::from(enforcement == Enforcement::Shadow));
    }
}

// ---- types ----

#[test]
fn handles_services_and_futures_are_send_and_sync_and_small() {
    fn is_shared<T: Clone + Send + Sync + 'static>() {}
    fn assert_send<T: Send + 'static>(_: &T) {}
    is_shared::<Balance<support::Host>>();
    is_shared::<BalanceService<support::Host>>();
    let world = World::default();
    let future = service(&world.balance(policy(), &["a"])).call(());
    assert_send(&future);
    assert!(size_of_val(&future) <= 512, "{} bytes", size_of_val(&future));
}
