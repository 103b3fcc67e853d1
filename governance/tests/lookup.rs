//! Finding what governs a method: at hand on each thread, and never out of date.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use outrigger::{Format, Governance, MethodState, PolicySet};
use outrigger_circuitbreak::State;
use outrigger_core::{Method, MethodRef, Observe, Outcome, Rejection};
use tokio_test::task;
use tower::{Layer, ServiceExt, service_fn};

const GET: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Get" };

/// All of a set are of the same number of seconds.
fn set(seconds: u64) -> PolicySet {
    let text = format!("defaults: {{timeout: {seconds}s, attempt_timeout: {seconds}s}}");
    PolicySet::parse("policies.yaml", &text, Format::Yaml).unwrap()
}

fn seconds(state: &MethodState) -> u64 {
    let timeout = state.policy().timeout().unwrap().timeout();
    assert_eq!(timeout, state.policy().attempt_timeout().unwrap().timeout(), "of half a set");
    timeout.unwrap().as_secs()
}

#[test]
fn looking_a_method_up_again_allocates_nothing() {
    let governance = Governance::new(set(1));
    let first = governance.method(GET);
    let mut again = None;
    let allocations = allocation_counter::measure(|| again = Some(governance.clone().method(GET)));
    assert_eq!(allocations.count_total, 0);
    assert!(Arc::ptr_eq(&first, &again.unwrap()));
}

#[test]
fn the_first_look_up_after_a_change_finds_it() {
    let governance = Governance::new(set(1));
    for version in 2..100 {
        let of_a_call_in_flight = governance.method(GET);
        governance.replace(set(version));
        assert_eq!(seconds(&governance.method(GET)), version);
        assert_eq!(seconds(&of_a_call_in_flight), version - 1);
    }
}

#[test]
fn methods_and_governances_that_take_turns_on_a_thread_are_not_mixed_up() {
    let all: Vec<_> = (1..=40).map(|seconds| (seconds, Governance::new(set(seconds)))).collect();
    // Far more than a thread has at hand; those of one length and letters share a place.
    let methods: Vec<_> =
        (100..200).map(|n| Method::new("shop.Cart", &format!("Get{n}"))).collect();
    let check = |method: &Method, seconds_of: u64, governance: &Governance| {
        let state = governance.method(method.as_ref());
        assert_eq!((state.method(), seconds(&state)), (method, seconds_of));
    };
    for _ in 0..2 {
        for method in &methods {
            for (of, governance) in &all {
                check(method, *of, governance);
            }
        }
        for (of, governance) in &all {
            for method in &methods {
                check(method, *of, governance);
            }
        }
    }
}

#[test]
fn ten_thousand_sets_are_swapped_in_and_no_look_up_finds_half_of_two() {
    let governance = Governance::new(set(1));
    let sets = [set(1), set(2)];
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looks = || {
            let mut found = [0, 0];
            while !is_over.load(Ordering::Relaxed) || found.contains(&0) {
                // As it was found, it stays: also when the next set is in force.
                let state = governance.method(GET);
                let of = seconds(&state);
                thread::yield_now();
                assert_eq!(seconds(&state), of);
                found[usize::try_from(of).unwrap() - 1] += 1;
            }
            found
        };
        let looking = scope.spawn(looks);
        for set in sets.iter().cycle().take(10_000) {
            governance.replace(set.clone());
        }
        // Until both were found, however the machine shares its time out.
        while !looking.is_finished() {
            is_over.store(true, Ordering::Relaxed);
            for set in &sets {
                governance.replace(set.clone());
            }
        }
        looking.join().unwrap();
    });
    assert!(governance.version() >= 10_000);
}

#[test]
fn what_a_thread_has_at_hand_goes_with_the_set_that_it_replaces() {
    let governance = Governance::new(set(1));
    let old = Arc::downgrade(&governance.method(GET));
    governance.replace(set(2));
    assert!(old.upgrade().is_none(), "no call is governed by it any more");
    let last = Arc::downgrade(&governance.method(GET));
    drop(governance);
    assert!(last.upgrade().is_none(), "nothing is governed any more");
}

/// A flood is far more names than there is room for, so that a method that counted as not used
/// would go with near certainty.
#[tokio::test(start_paused = true)]
async fn a_method_that_is_called_between_floods_of_other_names_keeps_its_state() {
    const CALLS: u32 = 100;
    let text = "defaults: {circuit_breaker: {error_rate: {rate: 0.5, minimum_calls: 100}}}";
    let set = PolicySet::parse("policies.yaml", text, Format::Yaml).unwrap();
    let governance = Governance::new(set);
    for call in 0..CALLS {
        let state = governance.method(GET);
        assert_eq!(state.circuit_breaker().state(), State::Closed, "after {call} failures");
        state.circuit_breaker().try_acquire().unwrap().record(Outcome::Failure);
        drop(state);
        let flood = || {
            for other in 0..600 {
                let other = Method::new("flood", &format!("{call}.{other}"));
                // Not idle, so that only what was used lately is spared.
                governance
                    .with_method(other.as_ref(), |state| state.circuit_breaker().force_open());
            }
        };
        // On another thread, so that the method stays at hand on this one.
        thread::scope(|scope| scope.spawn(flood).join().unwrap());
    }
    assert_eq!(governance.method(GET).circuit_breaker().state(), State::Open);
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a namer")]
fn name(_: &u32) -> Option<MethodRef<'_>> {
    Some(GET)
}

/// Watches how many of it there are.
#[derive(Clone)]
struct Watched(#[expect(dead_code, reason = "its owners are counted")] Arc<()>);

impl<E> Observe<E> for Watched {
    fn observe(&self, _name: &str, _event: &E) {}
}

#[tokio::test(start_paused = true)]
async fn a_call_that_outlives_its_governance_leaves_nothing_of_it_at_hand() {
    let text = "defaults: {rate_limit: {rate: 1000, burst: 1, max_waiting: 10}}";
    let set = PolicySet::parse("policies.yaml", text, Format::Yaml).unwrap();
    let watched = Arc::new(());
    let governance = Governance::with_observer(set, Watched(Arc::clone(&watched)));
    let service = service_fn(async |n: u32| Ok::<_, Rejection>(n));
    let client = governance.client(name).layer(service);
    client.clone().oneshot(1).await.unwrap();
    let mut waiting = task::spawn(client.oneshot(2));
    assert!(waiting.poll().is_pending(), "for a token");
    drop(governance);
    assert_eq!(waiting.await, Ok(2));
    assert_eq!(Arc::strong_count(&watched), 1);
}

/// Takes a switch back when one of it is dropped, once.
#[derive(Clone)]
struct SwitchesBack(Arc<Mutex<Option<Governance<Self>>>>);

impl Drop for SwitchesBack {
    fn drop(&mut self) {
        let governance = self.0.lock().unwrap().take();
        if let Some(governance) = governance {
            governance.switch(None, None, None);
        }
    }
}

impl<E> Observe<E> for SwitchesBack {
    fn observe(&self, _name: &str, _event: &E) {}
}

#[test]
fn an_observer_that_is_dropped_with_old_policies_may_change_them_itself() {
    let text = "{defaults: {circuit_breaker: {}}, server: {rate_limit: 10/s}}";
    let set = PolicySet::parse("policies.yaml", text, Format::Yaml).unwrap();
    let armed = Arc::new(Mutex::new(None));
    let governance = Governance::with_observer(set, SwitchesBack(Arc::clone(&armed)));
    // On another thread, so that no share of what is replaced is at hand here.
    let look_up = || governance.with_method(GET, |_| ());
    thread::scope(|scope| scope.spawn(look_up).join().unwrap());
    *armed.lock().unwrap() = Some(governance.clone());
    governance.replace(PolicySet::default());
    assert_eq!((governance.version(), armed.lock().unwrap().is_none()), (2, true));
}
