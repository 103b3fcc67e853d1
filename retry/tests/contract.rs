//! The time-out under the laws of a tower layer.

use std::time::Duration;

use outrigger_core::Enforcement;
use outrigger_retry::{TimeoutLayer, TimeoutPolicy};
use outrigger_testing::{Script, laws};

fn an_hour(enforcement: Enforcement) -> impl Fn() -> TimeoutLayer {
    let policy = TimeoutPolicy::after(Duration::from_secs(3_600));
    move || TimeoutLayer::new(policy.with_enforcement(enforcement))
}

#[test]
fn it_keeps_the_laws_whatever_its_enforcement() {
    for enforcement in [Enforcement::Enforced, Enforcement::Shadow, Enforcement::Disabled] {
        laws::all(an_hour(enforcement));
    }
    laws::waiting_costs_no_polls(an_hour(Enforcement::Enforced), Duration::from_secs(60));
}

#[test]
fn it_needs_nothing_of_the_inner_service_but_that_it_is_one() {
    laws::needs_only_a_service(an_hour(Enforcement::Enforced), &Script::default());
}

#[test]
fn it_allocates_nothing_for_a_call() {
    laws::a_call_allocates_nothing(an_hour(Enforcement::Enforced));
}
