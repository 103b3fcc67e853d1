//! Each law of calls that wait for their turn is seen to fail on a queue that breaks it, and to
//! hold for one that does not.

mod support;

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use outrigger_testing::{Scripted, laws};
use support::assert_broken;
use tokio::sync::Semaphore;
use tower::{BoxError, Service, layer::layer_fn, service_fn};
use tower_layer::Layer;

/// What a queue does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    LastComesFirst,
    LeavesTheReadyValueBehind,
    LosesATurnWithItsWaiter,
    LosesATurnWithItsCall,
    RefusesTheNext,
    RunsTwo,
    Spins,
    TellsAll,
    TellsNobody,
}

/// Lets one call run at a time, and the others wait.
#[derive(Clone, Debug)]
struct Queue {
    fault: Fault,
    line: Arc<Mutex<Line>>,
}

#[derive(Debug, Default)]
struct Line {
    next_number: usize,
    /// Who runs, or is told to.
    turn: Option<usize>,
    waiting: VecDeque<(usize, Option<Waker>)>,
}

fn queue(fault: Fault) -> impl Fn() -> Queue {
    move || Queue { fault, line: Arc::default() }
}

impl Queue {
    fn hand_on(&self) {
        let told: Vec<_> = {
            let mut line = self.line.lock().expect("no panic with the lock held");
            let next = match self.fault {
                Fault::LastComesFirst => line.waiting.pop_back(),
                _ => line.waiting.pop_front(),
            };
            line.turn = next.as_ref().map(|(number, _)| *number);
            let all = line.waiting.iter_mut().filter(|_| self.fault == Fault::TellsAll);
            let all: Vec<_> = all.filter_map(|(_, waker)| waker.take()).collect();
            next.and_then(|(_, waker)| waker).into_iter().chain(all).collect()
        };
        if self.fault != Fault::TellsNobody {
            told.into_iter().for_each(Waker::wake);
        }
    }
}

impl Layer<Scripted> for Queue {
    type Service = Queued;

    fn layer(&self, inner: Scripted) -> Queued {
        Queued { inner, queue: self.clone() }
    }
}

#[derive(Clone, Debug)]
struct Queued {
    inner: Scripted,
    queue: Queue,
}

impl Service<u32> for Queued {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> Self::Future {
        let fresh = self.inner.clone();
        let mut turn = Turn::new(self.queue.clone());
        let leaves = turn.queue.fault == Fault::LeavesTheReadyValueBehind && !turn.has_come();
        let mut inner = if leaves { fresh } else { std::mem::replace(&mut self.inner, fresh) };
        Box::pin(async move {
            std::future::poll_fn(|cx| turn.poll(cx)).await;
            turn.is_running = true;
            if request == 2 && turn.queue.fault == Fault::RefusesTheNext {
                return Err("refused".into());
            }
            std::future::poll_fn(|cx| inner.poll_ready(cx)).await?;
            inner.call(request).await
        })
    }
}

struct Turn {
    number: usize,
    is_running: bool,
    queue: Queue,
}

impl Turn {
    fn new(queue: Queue) -> Self {
        let number = {
            let mut line = queue.line.lock().expect("no panic with the lock held");
            let number = line.next_number;
            line.next_number += 1;
            if line.turn.is_none() {
                line.turn = Some(number);
            } else {
                line.waiting.push_back((number, None));
            }
            number
        };
        Self { number, is_running: false, queue }
    }

    fn has_come(&self) -> bool {
        self.queue.line.lock().expect("no panic with the lock held").turn == Some(self.number)
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut line = self.queue.line.lock().expect("no panic with the lock held");
        if line.turn == Some(self.number) || self.queue.fault == Fault::RunsTwo {
            return Poll::Ready(());
        }
        if self.queue.fault == Fault::Spins {
            cx.waker().wake_by_ref();
        }
        let mine = line.waiting.iter_mut().filter(|(number, _)| *number == self.number);
        mine.for_each(|(_, waker)| *waker = Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let is_turn = {
            let mut line = self.queue.line.lock().expect("no panic with the lock held");
            line.waiting.retain(|(number, _)| *number != self.number);
            line.turn == Some(self.number)
        };
        let is_lost = match self.queue.fault {
            Fault::LosesATurnWithItsWaiter => !self.is_running,
            Fault::LosesATurnWithItsCall => self.is_running,
            _ => false,
        };
        if is_turn && !is_lost {
            self.queue.hand_on();
        }
    }
}

#[test]
fn a_good_queue_keeps_every_law() {
    laws::all(queue(Fault::None));
    laws::a_dropped_waiter_hands_its_turn_on(queue(Fault::None));
    laws::a_waiter_parks_no_place_below(queue(Fault::None));
    laws::waiters_are_served_in_order_and_without_a_stampede(queue(Fault::None), 1_000);
}

/// tokio's semaphore is fair, and hands on what a dropped waiter was given.
#[test]
fn a_semaphore_keeps_the_laws_of_turns() {
    let limited = || {
        let places = Arc::new(Semaphore::new(1));
        layer_fn(move |inner: Scripted| {
            let places = Arc::clone(&places);
            service_fn(move |request| {
                let (mut inner, places) = (inner.clone(), Arc::clone(&places));
                async move {
                    let _place = places.acquire_owned().await?;
                    std::future::poll_fn(|cx| inner.poll_ready(cx)).await?;
                    inner.call(request).await
                }
            })
        })
    };
    laws::all_but_readiness(limited);
    laws::a_dropped_waiter_hands_its_turn_on(limited);
    laws::a_waiter_parks_no_place_below(limited);
    laws::waiters_are_served_in_order_and_without_a_stampede(limited, 1_000);
}

#[test]
fn a_turn_that_is_lost_with_its_waiter_or_its_call_is_found() {
    let law = laws::a_dropped_waiter_hands_its_turn_on;
    assert_broken(|| law(queue(Fault::LosesATurnWithItsWaiter)), "took its turn with it");
    assert_broken(|| law(queue(Fault::LosesATurnWithItsCall)), "nobody is told");
    assert_broken(|| law(queue(Fault::TellsNobody)), "nobody is told");
    assert_broken(|| law(queue(Fault::RefusesTheNext)), "is refused");
}

#[test]
fn a_queue_that_leaves_a_ready_value_behind_is_found() {
    let how = "a call waits for a place below that its own layer parks";
    let fault = Fault::LeavesTheReadyValueBehind;
    assert_broken(|| laws::a_waiter_parks_no_place_below(queue(fault)), how);
}

#[test]
fn a_queue_that_spins_is_found() {
    let law = || laws::a_dropped_waiter_hands_its_turn_on(queue(Fault::Spins));
    assert_broken(law, "wakes itself");
}

#[test]
fn an_unfair_queue_is_found() {
    let law = laws::waiters_are_served_in_order_and_without_a_stampede;
    assert_broken(|| law(queue(Fault::LastComesFirst), 10), "in the order [8, 7");
    assert_broken(|| law(queue(Fault::LosesATurnWithItsWaiter), 10), "9 of 9 waiters");
}

#[test]
fn a_stampede_is_found() {
    let law = laws::waiters_are_served_in_order_and_without_a_stampede;
    assert_broken(|| law(queue(Fault::TellsAll), 100), "more than 3 times each");
}

#[test]
#[should_panic(expected = "this layer lets more than one call run")]
fn a_layer_that_lets_two_run_is_not_taken_for_a_queue() {
    laws::a_dropped_waiter_hands_its_turn_on(queue(Fault::RunsTwo));
}

#[test]
#[should_panic(expected = "this layer lets more than one call run")]
fn a_layer_that_lets_two_run_cannot_show_what_a_waiter_parks() {
    laws::a_waiter_parks_no_place_below(queue(Fault::RunsTwo));
}
