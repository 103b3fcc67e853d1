//! What a test sees of the scripted services and the walk.

use std::{cell::RefCell, panic::catch_unwind, task::Poll, time::Duration};

use outrigger_testing::{Answer, Readiness, Scripted, ScriptedError, Walk, scripted};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Service};

fn poll_ready(service: &mut Scripted) -> Poll<Result<(), BoxError>> {
    task::spawn(()).enter(|cx, _| service.poll_ready(cx))
}

/// What becomes of a call that answers at its first poll.
fn call(service: &mut Scripted, request: u32) -> Result<u32, BoxError> {
    assert!(assert_ready!(poll_ready(service)).is_ok());
    assert_ready!(task::spawn(service.call(request)).poll())
}

fn panics(act: impl FnOnce()) -> String {
    let panic = catch_unwind(std::panic::AssertUnwindSafe(act)).expect_err("a panic");
    let said = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    said.or_else(|| panic.downcast_ref::<String>().cloned()).expect("a message")
}

#[test]
fn a_value_is_ready_for_one_call_and_its_clone_for_none() {
    let (mut service, _script) = scripted();
    let unready = "law broken: the inner service was called, but this value was not polled ready";
    assert_eq!(panics(|| drop(service.call(1))), unready);

    assert!(poll_ready(&mut service).is_ready());
    assert_eq!(panics(|| drop(service.clone().call(1))), unready);
    drop(service.call(1));
    assert_eq!(panics(|| drop(service.call(1))), unready);
}

#[test]
fn a_value_that_became_pending_again_is_not_ready() {
    let (mut service, script) = scripted();
    assert!(poll_ready(&mut service).is_ready());
    script.readiness(Readiness::Pending);
    assert_pending!(poll_ready(&mut service));
    assert!(panics(|| drop(service.call(1))).starts_with("law broken"));
}

#[test]
fn readiness_is_what_the_script_says() {
    let (mut service, script) = scripted();
    script.readiness(Readiness::ReadyAfter(2));
    let mut waiting = task::spawn(());
    for _ in 0..2 {
        assert_pending!(waiting.enter(|cx, _| service.poll_ready(cx)));
        assert!(waiting.is_woken());
    }
    assert!(assert_ready!(poll_ready(&mut service)).is_ok());
    assert_eq!(script.ready_polls(), 3);

    script.readiness(Readiness::Pending);
    assert_pending!(waiting.enter(|cx, _| service.poll_ready(cx)));
    assert!(!waiting.is_woken());
    script.readiness(Readiness::Error);
    assert!(waiting.is_woken());
    assert!(assert_ready!(poll_ready(&mut service)).unwrap_err().is::<ScriptedError>());
    script.readiness(Readiness::Panic);
    assert_eq!(panics(|| drop(poll_ready(&mut service))), "the script says: panic in `poll_ready`");
}

#[test]
fn the_next_calls_get_the_next_answers_and_then_the_standing_one() {
    let (mut service, script) = scripted();
    script.next_answers([Answer::Error, Answer::Ok, Answer::PanicInCall]);
    assert!(call(&mut service, 1).unwrap_err().is::<ScriptedError>());
    assert_eq!(call(&mut service, 1).unwrap(), 2);
    assert_eq!(panics(|| drop(call(&mut service, 1))), "the script says: panic in `call`");
    assert_eq!(call(&mut service, u32::MAX).unwrap(), 0);
    assert_eq!((script.calls(), script.alive(), script.abandoned()), (4, 0, 0));
}

#[test]
fn answers_come_after_so_many_polls() {
    for (answer, is_ok) in [(Answer::OkAfter(2), true), (Answer::ErrorAfter(2), false)] {
        let (mut service, script) = scripted();
        script.answer(answer);
        assert!(poll_ready(&mut service).is_ready());
        let mut call = task::spawn(service.call(1));
        for _ in 0..2 {
            assert_pending!(call.poll());
            assert!(call.is_woken());
        }
        assert_eq!(assert_ready!(call.poll()).is_ok(), is_ok);
        assert_eq!((script.polls(), script.alive(), script.abandoned()), (3, 1, 0));
        assert!(panics(|| drop(call.poll())).starts_with("law broken"));
        drop(call);
        assert_eq!((script.alive(), script.abandoned()), (0, 0));
    }
}

#[test]
fn a_call_waits_for_the_script_and_is_abandoned_when_it_is_dropped() {
    let (mut service, script) = scripted();
    script.answer(Answer::Pending);
    assert!(poll_ready(&mut service).is_ready());
    let mut waiting = task::spawn(service.call(1));
    assert!(poll_ready(&mut service).is_ready());
    let mut dropped = task::spawn(service.call(1));
    assert_pending!(waiting.poll());
    assert_pending!(dropped.poll());
    drop(dropped);
    assert_eq!((script.alive(), script.abandoned()), (1, 1));

    assert!(!waiting.is_woken());
    script.answer(Answer::Ok);
    assert!(waiting.is_woken());
    assert_eq!(assert_ready!(waiting.poll()).unwrap(), 2);
}

#[test]
fn a_place_is_held_from_readiness_to_the_end_of_the_call() {
    let (mut one, script) = scripted();
    script.places(1);
    let mut other = one.clone();
    let mut waiting = task::spawn(());
    let mut is_told = |other: &mut Scripted, free: &mut dyn FnMut()| {
        assert_pending!(waiting.enter(|cx, _| other.poll_ready(cx)));
        free();
        waiting.is_woken()
    };

    // Ready twice takes one place; a finished call gives it back though it is kept.
    assert!(poll_ready(&mut one).is_ready());
    assert!(poll_ready(&mut one).is_ready());
    let mut call = task::spawn(one.call(1));
    assert!(is_told(&mut other, &mut || drop(call.poll())));
    // So does a call that is dropped,
    assert!(poll_ready(&mut one).is_ready());
    let mut call = Some(one.call(1));
    assert!(is_told(&mut other, &mut || drop(call.take())));
    // one that panics,
    script.next_answers([Answer::PanicInCall]);
    assert!(poll_ready(&mut one).is_ready());
    assert!(is_told(&mut other, &mut || drop(panics(|| drop(one.call(1))))));
    // and a value that is dropped uncalled.
    let mut third = Some(one.clone());
    assert!(poll_ready(third.as_mut().unwrap()).is_ready());
    assert!(is_told(&mut other, &mut || drop(third.take())));
    assert!(poll_ready(&mut other).is_ready());
}

#[test]
fn a_walk_is_the_same_for_the_same_seed() {
    let walk = |seed| {
        let mut walk = Walk::new(seed);
        let second = Duration::from_secs(1);
        let step = |_| {
            let picked = walk.pick(&[(1, 'a'), (0, 'b'), (3, 'c')]);
            (picked, walk.below(10), walk.happens(0.5), walk.duration(second), walk.near(&[second]))
        };
        (0..100).map(step).collect::<Vec<_>>()
    };
    assert_eq!(walk(7), walk(7));
    assert_ne!(walk(7), walk(8));
    assert!(walk(7).iter().all(|step| step.0 != 'b' && step.1 < 10));
    let seconds = |step: &(_, _, _, Duration, Duration)| step.4.as_nanos().abs_diff(1_000_000_000);
    assert!(walk(7).iter().all(|step| step.3.as_secs() == 0 && seconds(step) <= 1));
}

#[test]
fn weights_are_kept() {
    let mut walk = Walk::new(1);
    let picked = (0..10_000).filter(|_| walk.pick(&[(1, true), (3, false)])).count();
    assert!((2_300..2_700).contains(&picked), "{picked}");
    let happened = (0..10_000).filter(|_| walk.happens(0.1)).count();
    assert!((850..1_150).contains(&happened), "{happened}");
    assert!(!(0..100).any(|_| walk.happens(0.0)) && (0..100).all(|_| walk.happens(1.0)));
}

#[test]
fn each_walk_has_its_own_seed() {
    let seen = RefCell::new(Vec::new());
    Walk::each(3..6, |mut walk| seen.borrow_mut().push(walk.below(1_000_000)));
    let alone: Vec<_> = (3..6).map(|seed| Walk::new(seed).below(1_000_000)).collect();
    assert_eq!(seen.into_inner(), alone);

    assert_eq!(panics(|| Walk::each(0..9, |_| panic!("a bad step"))), "a bad step");
}
