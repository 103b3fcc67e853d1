//! Every interleaving of two threads where a place or a turn could be lost.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::{Wake, Waker},
};

use loom::{sync::Arc, thread};
use tokio::time::Instant;

use super::{Answer, Asking, Gate, HandOut, Verdict};
use crate::{ConcurrencyLimitPolicy, ConcurrencyRefusal};

fn gate(limit: u32, max_waiting: u32, now: Instant) -> Arc<Gate> {
    let policy = ConcurrencyLimitPolicy::builder().limit(limit).max_waiting(max_waiting);
    Arc::new(Gate::new(&policy.build().unwrap(), now))
}

fn leave(gate: &Gate, now: Instant) {
    if gate.leave() {
        hand_out(gate, now);
    }
}

fn hand_out(gate: &Gate, now: Instant) {
    while let HandOut::Decided(waker) = gate.hand_out(now) {
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Asks as a call does: the short way first.
fn enter(gate: &Gate, now: Instant) -> Answer {
    let asking = Asking::default();
    if gate.try_enter(asking.criticality) { Answer::In } else { gate.enter(asking, true, now) }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn loom_the_only_place_has_one_holder_at_a_time_and_comes_back() {
    loom::model(|| {
        let now = Instant::now();
        let gate = gate(1, 0, now);
        let in_use = Arc::new(loom::cell::UnsafeCell::new(()));
        let threads = [(); 2].map(|()| {
            let (gate, in_use) = (Arc::clone(&gate), Arc::clone(&in_use));
            thread::spawn(move || {
                if matches!(enter(&gate, now), Answer::In) {
                    // loom finds two holders, or one that does not see what the last one did.
                    in_use.with_mut(|_| ());
                    leave(&gate, now);
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    });
}

#[test]
fn loom_who_begins_to_wait_while_the_place_comes_back_is_let_in_and_woken() {
    loom::model(|| {
        let now = Instant::now();
        let gate = gate(1, 4, now);
        assert!(matches!(enter(&gate, now), Answer::In));
        let woken = std::sync::Arc::new(Woken::default());
        let leaving = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || leave(&gate, now))
        };
        match enter(&gate, now) {
            Answer::In => leaving.join().unwrap(),
            Answer::Waits(key, None) => {
                let waker = Waker::from(std::sync::Arc::clone(&woken));
                let early = gate.verdict(key, waker);
                leaving.join().unwrap();
                if early == Verdict::None {
                    assert_eq!(woken.0.load(Ordering::SeqCst), 1, "woken once");
                    let verdict = gate.verdict(key, Waker::noop().clone());
                    assert!(matches!(verdict, Verdict::Place(_)));
                }
            }
            other => panic!("{other:?}"),
        }
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 0));
    });
}

#[test]
fn loom_a_waiter_that_gives_up_while_it_is_let_in_hands_its_place_on() {
    loom::model(|| {
        let now = Instant::now();
        let gate = gate(1, 4, now);
        assert!(matches!(enter(&gate, now), Answer::In));
        let Answer::Waits(first, _) = enter(&gate, now) else { panic!("the place is taken") };
        let Answer::Waits(second, _) = enter(&gate, now) else { panic!("the place is taken") };
        let leaving = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || leave(&gate, now))
        };
        if let Verdict::Place(_) = gate.give_up(first) {
            leave(&gate, now);
        }
        leaving.join().unwrap();
        let verdict = gate.verdict(second, Waker::noop().clone());
        assert!(matches!(verdict, Verdict::Place(_)), "the turn is not lost");
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 0));
    });
}

#[test]
fn loom_a_limit_that_grows_while_a_call_begins_to_wait_lets_it_in() {
    loom::model(|| {
        let now = Instant::now();
        let gate = gate(1, 4, now);
        assert!(matches!(enter(&gate, now), Answer::In));
        let growing = {
            let gate = Arc::clone(&gate);
            let policy = ConcurrencyLimitPolicy::builder().limit(2).max_waiting(4).build().unwrap();
            thread::spawn(move || {
                gate.set_policy(&policy);
                hand_out(&gate, now);
            })
        };
        let answer = enter(&gate, now);
        growing.join().unwrap();
        if let Answer::Waits(key, _) = answer {
            let verdict = gate.verdict(key, Waker::noop().clone());
            assert!(matches!(verdict, Verdict::Place(_)));
        }
        assert_eq!((gate.in_flight(), gate.waiting()), (2, 0));
    });
}

#[test]
fn loom_two_places_that_come_back_at_once_let_two_waiters_in() {
    loom::model(|| {
        let now = Instant::now();
        let gate = gate(2, 4, now);
        (0..2).for_each(|_| assert!(matches!(enter(&gate, now), Answer::In)));
        let keys = [(); 2].map(|()| match enter(&gate, now) {
            Answer::Waits(key, _) => key,
            other => panic!("{other:?}"),
        });
        let threads = [(); 2].map(|()| {
            let gate = Arc::clone(&gate);
            thread::spawn(move || leave(&gate, now))
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for key in keys {
            assert!(matches!(gate.verdict(key, Waker::noop().clone()), Verdict::Place(_)));
        }
        assert_eq!((gate.in_flight(), gate.waiting()), (2, 0));
    });
}

#[test]
fn loom_a_call_never_overtakes_one_that_waits() {
    loom::model(|| {
        let now = Instant::now();
        let gate = gate(1, 1, now);
        assert!(matches!(enter(&gate, now), Answer::In));
        let Answer::Waits(key, _) = enter(&gate, now) else { panic!("the place is taken") };
        let leaving = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || leave(&gate, now))
        };
        let late = enter(&gate, now);
        leaving.join().unwrap();
        let full = matches!(late, Answer::Refused(ConcurrencyRefusal::QueueFull));
        assert!(full || matches!(late, Answer::Waits(..)), "{late:?}");
        assert!(matches!(gate.verdict(key, Waker::noop().clone()), Verdict::Place(_)));
    });
}
