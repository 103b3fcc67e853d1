use std::{future::poll_fn, pin::pin, task::Poll};

use tokio_test::task::{self, Spawn};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::bench::{Bench, LONG, check};
use crate::{
    Answer, Scripted,
    start::{poll_ready, start},
};

/// Puts `waiters` calls behind one that runs. None of them reaches the inner service.
fn queue<S>(bench: &mut Bench<'_, S>, waiters: u32) -> (Spawn<S::Future>, Vec<Spawn<S::Future>>)
where
    S: Service<u32, Response = u32, Error = BoxError>,
{
    bench.script.answer(Answer::Pending);
    let mut running = bench.start(0);
    assert!(running.poll().is_pending());
    assert!(bench.script.calls() == 1, "the first call does not reach the inner service");
    let mut waiting: Vec<_> = (1..=waiters).map(|request| bench.start(request)).collect();
    for call in &mut waiting {
        assert!(call.poll().is_pending(), "this layer does not let a second call wait");
        assert!(!call.is_woken(), "law broken: a call that waits wakes itself");
    }
    assert!(bench.script.calls() == 1, "this layer lets more than one call run");
    (running, waiting)
}

/// A call that is told that its turn has come, but is dropped before it goes on, hands the turn to
/// the next.
///
/// For layers whose calls wait for their turn in their future: `make` lets one call run, and at
/// least two wait.
///
/// # Panics
///
/// When the law is broken, or when `make` lets more than one call run.
pub fn a_dropped_waiter_hands_its_turn_on<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    for is_running_dropped in [false, true] {
        check(&make, |mut bench| {
            let (mut running, mut waiting) = queue(&mut bench, 2);
            bench.script.answer(Answer::Ok);
            if !is_running_dropped {
                assert!(bench.finish(&mut running).is_ok());
            }
            drop(running);
            bench.clock.settle();
            let told = waiting.iter().position(Spawn::is_woken);
            let told = told.expect("law broken: a turn is free, and nobody is told");
            drop(waiting.remove(told));
            bench.clock.settle();
            let next = &mut waiting[0];
            assert!(next.is_woken(), "law broken: a dropped waiter took its turn with it");
            assert!(bench.clock.finish(next).is_ok(), "law broken: the next waiter is refused");
        });
    }
}

/// Over an inner service whose readiness takes one of few places, calls that wait for their turn
/// are not kept from it by places that their own services hold: a layer that lets an unready clone
/// wait, and leaves the ready value in the service that was called, locks itself up.
///
/// For layers whose calls wait for their turn in their future: `make` lets one call run, and at
/// least two wait.
///
/// # Panics
///
/// When the law is broken, or when `make` lets more than one call run.
pub fn a_waiter_parks_no_place_below<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    check(make, |mut bench| {
        bench.script.places(2);
        let (mut first, mut second) = (bench.service.clone(), bench.service.clone());
        bench.script.answer(Answer::Pending);
        let mut running = bench.start(0);
        assert!(running.poll().is_pending());
        let mut waiting = vec![start(&mut first, 1)];
        assert!(waiting[0].poll().is_pending(), "this layer does not let a second call wait");
        assert!(bench.script.calls() == 1, "this layer lets more than one call run");
        bench.script.answer(Answer::Ok);
        assert!(bench.finish(&mut running).is_ok());
        if let Poll::Ready(Ok(())) = poll_ready(&mut second) {
            waiting.push(task::spawn(second.call(2)));
        }
        // All are polled together, so that each may wait for another.
        let is_over = poll_fn(|cx| {
            waiting.retain_mut(|call| pin!(call).poll(cx).is_pending());
            if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        let is_over = bench.clock.limit(LONG, is_over).is_some();
        assert!(is_over, "law broken: a call waits for a place below that its own layer parks");
    });
}

/// Calls that wait for their turn get it in the order in which they came, though the first of
/// them gives up when it is its turn, and each is polled three times at most.
///
/// For layers whose calls wait for their turn in their future: `make` lets one call run, and
/// `waiters` wait.
///
/// # Panics
///
/// When the law is broken, or when `make` lets more than one call run.
pub fn waiters_are_served_in_order_and_without_a_stampede<L>(make: impl Fn() -> L, waiters: u32)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    check(make, |mut bench| {
        let (mut running, mut waiting) = queue(&mut bench, waiters);
        bench.script.answer(Answer::Ok);
        assert!(bench.finish(&mut running).is_ok());
        drop(waiting.remove(0));
        let of = waiting.len();
        let (mut polls, mut served) = (of, Vec::new());
        let mut waiting: Vec<_> = waiting.into_iter().enumerate().collect();
        while let Some(at) = last_woken(&bench, &waiting) {
            polls += 1;
            assert!(polls <= 3 * of, "law broken: waiters are polled more than 3 times each");
            if waiting[at].1.poll().is_ready() {
                served.push(waiting.remove(at).0);
            }
        }
        assert!(served.is_sorted(), "law broken: waiters are served in the order {served:?}");
        let left = waiting.len();
        assert!(
            left == 0,
            "law broken: {left} of {of} waiters are never told that it is their turn"
        );
    });
}

/// The last of `waiting` that was woken: where many are woken at once, a fair layer serves the
/// first of them all the same.
fn last_woken<S, F>(bench: &Bench<'_, S>, waiting: &[(usize, Spawn<F>)]) -> Option<usize> {
    bench.clock.settle();
    waiting.iter().rposition(|(_, call)| call.is_woken())
}
