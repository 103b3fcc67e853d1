//! Who waits for tokens. Only the first waits for a time, by the queue's one timer, whose waker is
//! ours; when it has its tokens it sets the timer for the next. So there is one wake for each who
//! gets tokens, and nobody else's code runs under the lock.

use std::{
    mem,
    sync::Arc,
    task::{Context, Wake, Waker},
};

use outrigger_core::{Enforcement, Timer};
use tokio::time::Instant;

use super::engine::{Bucket, Shortage};
use crate::{
    sync::{AtomicU32, Mutex, MutexGuard, Ordering, PoisonError},
    waiters::Waiters,
};

#[derive(Debug)]
pub(super) struct Queue {
    /// How many wait: looked at by every call, changed under the lock.
    waiting: AtomicU32,
    state: Arc<Mutex<State>>,
    /// Wakes the first who waits.
    alarm: Waker,
}

#[derive(Debug)]
struct State {
    waiters: Waiters<Waiter, 1>,
    /// What all who wait ask for together.
    queued_cost: u64,
    timer: Timer,
    /// When the first may have its tokens, once that is known.
    due: Option<Instant>,
    /// Counts the timers, so that a late one does not take a newer one's place.
    timers: u64,
}

#[derive(Debug)]
struct Waiter {
    cost: u32,
    admitted: bool,
}

#[derive(Debug)]
struct Alarm(Arc<Mutex<State>>);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let first = {
            let mut state = lock(&self.0);
            state.waiters.first(0).and_then(|key| state.waiters.take_waker(key))
        };
        if let Some(waker) = first {
            waker.wake();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    pub(super) fn new() -> Self {
        let waiters = Waiters::new();
        let state = Arc::new(Mutex::new(State {
            waiters,
            queued_cost: 0,
            timer: Timer::new(),
            due: None,
            timers: 0,
        }));
        let alarm = Waker::from(Arc::new(Alarm(Arc::clone(&state))));
        Self { waiting: AtomicU32::new(0), state, alarm }
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Acquire)
    }

    pub(super) fn queued_cost(&self) -> u64 {
        lock(&self.state).queued_cost
    }

    /// Joins the queue if there is room and it is not too long a wait; `judge` is given how many
    /// wait and what they cost.
    pub(super) fn join<R>(
        &self,
        cost: u32,
        judge: impl FnOnce(u32, u64) -> Result<(), R>,
    ) -> Result<usize, R> {
        let mut state = lock(&self.state);
        judge(self.waiting(), state.queued_cost)?;
        state.queued_cost += u64::from(cost);
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Ok(state.waiters.push(0, Waiter { cost, admitted: false }))
    }

    /// Whether the waiter has its tokens. Must be polled in a tokio runtime.
    pub(super) fn poll(
        &self,
        key: usize,
        waker: Waker,
        bucket: &Bucket,
        enforcement: Enforcement,
    ) -> bool {
        let (admitted, old) = {
            let mut state = lock(&self.state);
            let old = if state.waiters.get(key).admitted {
                None
            } else {
                state.waiters.set_waker(key, waker)
            };
            (state.waiters.get(key).admitted, old)
        };
        drop(old);
        if !admitted {
            self.admit_first(key, bucket, enforcement);
        }
        let mut state = lock(&self.state);
        let admitted = state.waiters.get(key).admitted;
        let old = if admitted { state.waiters.forget(key) } else { None };
        drop(state);
        drop(old);
        admitted
    }

    /// Gives tokens to those who are first while there are any, and sets the timer for the next.
    fn admit_first(&self, asks: usize, bucket: &Bucket, enforcement: Enforcement) {
        let now = Instant::now();
        loop {
            let mut state = lock(&self.state);
            let Some(key) = state.waiters.first(0) else {
                state.due = None;
                return;
            };
            let cost = state.waiters.get(key).cost;
            // A timer is late by up to a millisecond; who waited does not lose it.
            let at = state.due.map_or(now, |due| due.min(now));
            match bucket.take(cost, at) {
                Err(Shortage::For(wait)) if enforcement == Enforcement::Enforced => {
                    state.due = at.checked_add(wait);
                    match state.due {
                        Some(due) if due <= now => {}
                        Some(due) => {
                            state.timers += 1;
                            let number = state.timers;
                            drop(state);
                            self.set_timer(number, due);
                            return;
                        }
                        None => return,
                    }
                    continue;
                }
                // What a changed quota cannot give any more passes with what there was.
                _ => {}
            }
            self.unlink(&mut state, key);
            state.waiters.get_mut(key).admitted = true;
            let waker = state.waiters.take_waker(key);
            drop(state);
            // Who asks is awake.
            if let Some(waker) = waker.filter(|_| key != asks) {
                waker.wake();
            }
        }
    }

    /// A new one each time: the one before may be of a runtime that is gone. With nothing locked,
    /// since polling a timer may wake; a timer that another has overtaken is not kept.
    fn set_timer(&self, number: u64, at: Instant) {
        let mut timer = Timer::new();
        timer.arm(at);
        if timer.poll(&mut Context::from_waker(&self.alarm)).is_ready() {
            self.nudge();
            return;
        }
        let old = {
            let mut state = lock(&self.state);
            if state.timers == number { mem::replace(&mut state.timer, timer) } else { timer }
        };
        drop(old);
    }

    /// Leaves the queue, whether its turn has come or not. Says whether tokens were given to it.
    pub(super) fn leave(&self, key: usize) -> Option<u32> {
        let (given, wakers) = {
            let mut state = lock(&self.state);
            let Waiter { cost, admitted } = *state.waiters.get(key);
            let was_first = state.waiters.first(0) == Some(key);
            if !admitted {
                self.unlink(&mut state, key);
            }
            let old = state.waiters.forget(key);
            // The next in line waits for its own time now.
            let next = if was_first || admitted { state.waiters.first(0) } else { None };
            let next = next.and_then(|key| state.waiters.take_waker(key));
            (admitted.then_some(cost), [old, next])
        };
        let [old, next] = wakers;
        drop(old);
        if let Some(next) = next {
            next.wake();
        }
        given
    }

    /// Lets the first look again, after the quota has changed.
    pub(super) fn nudge(&self) {
        lock(&self.state).due = None;
        Arc::new(Alarm(Arc::clone(&self.state))).wake();
    }

    fn unlink(&self, state: &mut State, key: usize) {
        state.waiters.unlink(key);
        state.queued_cost -= u64::from(state.waiters.get(key).cost);
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
