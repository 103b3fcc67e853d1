//! Each law of a call is seen to fail on a layer that breaks it, and to hold for one that does not.

#[path = "support/faulty.rs"]
mod faulty;
mod support;

use std::time::Duration;

use faulty::{Fault, Faulty, FaultyLayer, faulty};
use outrigger_testing::{Script, Scripted, ScriptedFuture, laws};
use support::assert_broken;
#[cfg(feature = "allocations")]
use tower::util::MapFutureLayer;
use tower::{Service, layer::layer_fn, service_fn};
use tower_layer::Layer;

const QUIET: Duration = Duration::from_millis(300);

#[test]
fn a_layer_that_does_nothing_wrong_keeps_every_law() {
    laws::all(faulty(Fault::None));
    laws::waiting_costs_no_polls(faulty(Fault::None), QUIET);
}

#[test]
fn a_layer_that_calls_a_fresh_clone_is_found() {
    let law = laws::readiness_belongs_to_the_value_that_is_called;
    assert_broken(|| law(faulty(Fault::CallsAFreshClone)), "not polled ready");
}

#[test]
fn a_layer_that_gives_another_answer_is_found() {
    let law = laws::readiness_belongs_to_the_value_that_is_called;
    assert_broken(|| law(faulty(Fault::AnswersSomethingElse)), "an answer was lost");
}

#[test]
fn a_layer_that_never_asks_the_inner_service_is_found() {
    let law = || laws::readiness_belongs_to_the_value_that_is_called(faulty(Fault::IsAlwaysReady));
    assert_broken(law, "not polled ready");
    let law = || laws::readiness_is_forwarded(faulty(Fault::IsAlwaysReady));
    assert_broken(law, "though the inner service is not");
}

#[test]
fn a_clone_that_copies_readiness_is_found() {
    let law = || laws::clones_copy_no_readiness(faulty(Fault::CopiesReadiness));
    assert_broken(law, "not polled ready");
}

#[test]
fn readiness_that_is_used_twice_is_found() {
    let law = || laws::a_call_uses_its_readiness_up(faulty(Fault::KeepsItsReadiness));
    assert_broken(law, "ready for a second call");
}

#[test]
fn a_layer_that_takes_a_place_in_poll_ready_is_found() {
    let law = laws::a_ready_clone_that_never_calls_holds_nothing;
    assert_broken(|| law(faulty(Fault::TakesAPlaceInPollReady)), "another from being ready");
    assert_broken(|| law(faulty(Fault::TakesASecretPlaceInPollReady)), "another from calling");
    let law = || laws::a_call_uses_its_readiness_up(faulty(Fault::TakesAPlaceAtEachPollReady));
    assert_broken(law, "the inner service is ready, but the layer is Pending");
}

#[test]
fn a_layer_that_parks_a_place_below_is_found() {
    let law = laws::a_place_below_is_never_parked;
    assert_broken(|| law(faulty(Fault::ParksAPlaceBelow)), "a call that is over parks");
    assert_broken(|| law(faulty(Fault::LeaksTheInnerFuture)), "a dropped call parks");
}

#[test]
fn a_layer_that_swallows_or_wraps_errors_of_readiness_is_found() {
    let law = laws::readiness_is_forwarded;
    for fault in [Fault::SwallowsReadyErrors, Fault::WrapsReadyErrors] {
        assert_broken(|| law(faulty(fault)), "the error of `poll_ready` became");
    }
}

#[test]
fn a_poll_ready_that_spins_or_loses_its_wake_up_is_found() {
    let law = laws::readiness_is_forwarded;
    assert_broken(|| law(faulty(Fault::SpinsInPollReady)), "woken while");
    assert_broken(|| law(faulty(Fault::LosesAReadyWakeUp)), "not woken when");
}

#[test]
fn a_layer_that_wraps_or_swallows_the_users_error_is_found() {
    let law = laws::the_users_error_stays;
    assert_broken(|| law(faulty(Fault::WrapsTheError)), "the user's error became");
    assert_broken(|| law(faulty(Fault::SwallowsErrors)), "an error became a response");
}

#[test]
fn a_place_lost_with_a_dropped_call_is_found() {
    let law = laws::dropping_a_call_at_any_await_point_leaves_nothing_behind;
    let fault = Fault::LosesItsPlaceWhenDropped;
    assert_broken(|| law(faulty(fault)), "does not go through after 20 calls dropped at poll 0");
    assert_broken(|| law(faulty(Fault::LeaksTheInnerFuture)), "20 inner futures are still alive");
    assert_broken(|| law(faulty(Fault::AnswersTooEarly)), "came too early");
}

#[test]
fn a_place_lost_in_a_panic_is_found_whoever_catches_it() {
    let law = laws::a_panic_at_any_await_point_leaves_nothing_behind;
    for fault in [Fault::LosesItsPlaceInAPanic, Fault::LosesItsPlaceInACaughtPanic] {
        assert_broken(|| law(faulty(fault)), "after a panic");
    }
    assert_broken(|| law(faulty(Fault::SwallowsPanics)), "was swallowed");
}

#[test]
fn a_lock_that_a_panic_in_poll_ready_poisons_is_found() {
    let law = || laws::a_panic_in_poll_ready_leaves_it_whole(faulty(Fault::LocksAroundPollReady));
    assert_broken(law, "PoisonError");
}

#[test]
fn a_finished_call_that_keeps_something_is_found() {
    let law = laws::a_finished_call_that_is_kept_leaves_nothing_behind;
    assert_broken(|| law(faulty(Fault::KeepsTheFinishedFuture)), "20 inner futures are still");
    assert_broken(|| law(faulty(Fault::KeepsItsPlaceWhenOver)), "nobody will ever wake it");
}

#[test]
fn a_call_that_spins_or_loses_its_wake_up_is_found() {
    let law = laws::no_wake_up_is_lost_or_spun;
    assert_broken(|| law(faulty(Fault::Spins)), "wakes itself");
    assert_broken(|| law(faulty(Fault::LosesAWakeUp)), "was lost");
    assert_broken(|| law(faulty(Fault::PollsTheInnerTwice)), "polled 6 times in 3");
    assert_broken(|| law(faulty(Fault::AnswersSomethingElse)), "an answer was lost");
}

#[test]
fn a_call_that_keeps_its_first_waker_is_found() {
    let law = laws::a_call_that_moves_is_woken_where_it_is;
    assert_broken(|| law(faulty(Fault::KeepsTheFirstWaker)), "not woken where it is");
    assert_broken(|| law(faulty(Fault::AnswersTooEarly)), "came too early");
}

#[test]
fn a_call_that_looks_at_the_clock_now_and_then_is_found() {
    let law = laws::waiting_costs_no_polls;
    assert_broken(|| law(faulty(Fault::LooksAtTheClock), QUIET), "polled again");
    assert_broken(|| law(faulty(Fault::Spins), QUIET), "polled again");
    assert_broken(|| law(faulty(Fault::AnswersTooEarly), QUIET), "came too early");
}

fn fill(service: &mut Faulty<Scripted>, _: &Script) {
    service.take_a_place_for_ever();
}

fn is_filled(service: &mut Faulty<Scripted>) -> bool {
    service.has_a_place_taken()
}

#[test]
fn state_that_is_made_for_each_service_is_found() {
    let law = laws::a_layer_applied_twice_shares_its_state;
    law(faulty(Fault::None), fill, is_filled);

    let apart = || layer_fn(|inner| faulty(Fault::None)().layer(inner));
    let law = || laws::a_layer_applied_twice_shares_its_state(apart, fill, is_filled);
    assert_broken(law, "a state each");
}

#[test]
#[should_panic(expected = "the first service itself does not notice")]
fn closures_that_disturb_nothing_are_found() {
    laws::a_layer_applied_twice_shares_its_state(faulty(Fault::None), |_, _| (), is_filled);
}

#[test]
#[should_panic(expected = "nothing has happened yet")]
fn closures_that_always_notice_are_found() {
    laws::a_layer_applied_twice_shares_its_state(faulty(Fault::None), fill, |_| true);
}

#[test]
fn separate_layers_that_share_state_are_found() {
    let make = faulty(Fault::None);
    laws::separate_layers_share_nothing(|| [make(), make()], fill, is_filled);

    let joint = || {
        let layer = make();
        [layer.clone(), layer]
    };
    let law = || laws::separate_layers_share_nothing(joint, fill, is_filled);
    assert_broken(law, "share a state");
}

#[test]
fn a_layer_that_needs_little_loses_no_answer_either() {
    let script = Script::default();
    laws::needs_only_a_service(tower::layer::util::Identity::new, &script);
    laws::needs_only_a_clonable_service(tower::layer::util::Identity::new, &script);

    let deaf = || layer_fn(|_| service_fn(|request: u32| std::future::ready(Ok(request))));
    let law = || laws::needs_only_a_service(deaf, &script);
    assert_broken(law, "an answer was lost");
}

#[test]
fn a_future_that_has_grown_is_found() {
    laws::is_send_and_at_most::<[u8; 100]>(100);
    assert_broken(|| laws::is_send_and_at_most::<[u8; 101]>(100), "101 bytes");

    let size = size_of::<<<FaultyLayer as Layer<Scripted>>::Service as Service<u32>>::Future>();
    let grown = size - size_of::<ScriptedFuture>();
    laws::futures_are_send_and_grow_by_at_most(faulty(Fault::None), grown);
    let law = || laws::futures_are_send_and_grow_by_at_most(faulty(Fault::None), grown - 1);
    assert_broken(law, "bytes");
}

#[cfg(feature = "allocations")]
#[test]
fn a_call_that_boxes_its_future_is_found() {
    laws::a_call_allocates_nothing(|| MapFutureLayer::new(|call: ScriptedFuture| call));
    laws::a_call_allocates_nothing(faulty(Fault::None));

    let law = || laws::a_call_allocates_nothing(|| MapFutureLayer::new(Box::<ScriptedFuture>::pin));
    assert_broken(law, "1000 allocations");
}
