//! A breaker for each key: bounded, listed, forced, with policies of their own.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

mod support;

use std::num::NonZeroUsize;

use outrigger_circuitbreak::{CircuitBreakerPanel, CircuitBreakerPolicy, State};
use outrigger_core::Outcome;
use support::*;

fn panel(capacity: usize) -> CircuitBreakerPanel<u32> {
    CircuitBreakerPanel::<u32>::builder(touchy().build().unwrap())
        .capacity(NonZeroUsize::new(capacity).unwrap())
        .build()
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_keys_stay_within_the_cap_and_leave_busy_and_open_ones_intact() {
    let panel = panel(100);
    let (busy, open) = (1_000_000, 1_000_001);
    call(&panel.breaker(&open), Outcome::Failure);
    for key in 0..100_000 {
        call(&panel.breaker(&busy), Outcome::Success);
        call(&panel.breaker(&key), Outcome::Success);
        assert!(panel.len() <= 100, "{} keys", panel.len());
    }
    assert_eq!(panel.get(&busy).unwrap().snapshot().counts.calls, 100_000);
    assert_eq!(panel.get(&open).unwrap().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn the_cap_holds_even_when_every_circuit_is_open() {
    let panel = panel(10);
    for key in 0..1_000 {
        call(&panel.breaker(&key), Outcome::Failure);
        assert!(panel.len() <= 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_can_be_read_forced_reset_and_listed_by_its_key() {
    let panel = panel(10);
    assert!(panel.get(&1).is_none());
    panel.breaker(&1).force_open();
    call(&panel.breaker(&2), Outcome::Success);

    let mut list = panel.list();
    list.sort_by_key(|(key, _)| *key);
    let states: Vec<_> = list.iter().map(|(key, breaker)| (*key, breaker.state)).collect();
    assert_eq!(states, [(1, State::ForcedOpen), (2, State::Closed)]);

    panel.get(&1).unwrap().reset();
    assert!(panel.try_acquire(&1).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_key_may_have_a_policy_of_its_own_before_and_after_its_breaker_is_made() {
    let panel = panel(2);
    let lenient = |n| exact().consecutive_failures(n).build().unwrap();
    panel.set_policy(&1, lenient(2)).unwrap();
    call(&panel.breaker(&1), Outcome::Failure);
    assert_eq!(panel.breaker(&1).state(), State::Closed);
    panel.set_policy(&1, lenient(4)).unwrap();
    calls(&panel.breaker(&1), 2, Outcome::Failure);
    assert_eq!(panel.breaker(&1).state(), State::Closed, "and its streak went on");

    call(&panel.breaker(&2), Outcome::Success);
    panel.set_policy(&2, lenient(2)).unwrap();
    call(&panel.breaker(&2), Outcome::Failure);
    assert_eq!(panel.breaker(&2).state(), State::Closed);

    panel.remove(&1);
    calls(&panel.breaker(&1), 3, Outcome::Failure);
    assert_eq!(panel.breaker(&1).state(), State::Closed, "outlives its breaker");

    let error = panel.set_policy(&3, lenient(2)).unwrap_err();
    let said = "`own_policies` is 3; it must be within the capacity of the panel";
    assert_eq!(error.to_string(), said);
}

#[tokio::test(start_paused = true)]
async fn the_common_policy_steers_all_other_keys() {
    let panel = panel(10);
    panel.set_policy(&1, exact().consecutive_failures(3).build().unwrap()).unwrap();
    let breakers = [1, 2].map(|key| panel.breaker(&key));
    panel.policy().replace(exact().consecutive_failures(2).build().unwrap());
    for breaker in &breakers {
        calls(breaker, 2, Outcome::Failure);
    }
    assert_eq!(breakers.map(|breaker| breaker.state()), [State::Closed, State::Open]);
}

#[tokio::test(start_paused = true)]
async fn a_late_result_for_a_removed_key_brings_no_breaker_back() {
    let panel = panel(10);
    let permit = panel.try_acquire(&1).unwrap();
    assert!(panel.remove(&1));
    permit.record(Outcome::Failure);
    assert!(panel.get(&1).is_none());
    assert!(panel.try_acquire(&1).is_ok());
}

#[tokio::test(start_paused = true)]
async fn names_are_kitexs_from_to_method_with_the_caller_as_prefix() {
    let log = Log::default();
    let panel = CircuitBreakerPanel::<String>::builder(CircuitBreakerPolicy::default())
        .prefix("checkout")
        .observe(log.clone())
        .build();
    panel.breaker(&"shop.Orders/Place".to_owned()).force_open();
    assert_eq!(log.keys(), ["checkout/shop.Orders/Place"]);
}

#[tokio::test(start_paused = true)]
async fn a_separate_panel_shares_the_policy_but_no_breaker() {
    let panel = panel(10);
    let apart = panel.separate();
    call(&panel.breaker(&1), Outcome::Failure);
    assert!(apart.is_empty());
    assert!(panel.policy().ptr_eq(apart.policy()));
}
