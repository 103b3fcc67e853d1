use std::{sync::Arc, time::Duration};

use outrigger_core::Outcome;

use super::{Moment, Node};
use crate::{
    BalanceEvent,
    sync::{AtomicBool, AtomicU64, Ordering},
};

/// Where the calls of one lane to one endpoint are counted.
///
/// Clones of a service are dealt out to a few lanes, so that threads do not share cache lines.
/// A call holds its seat, and so all that its end needs.
#[derive(Debug)]
pub(crate) struct Seat {
    counts: Counts,
    node: Arc<Node>,
    /// Keeps the counts of two seats apart.
    _padding: [u64; 7],
}

#[derive(Debug, Default)]
struct Counts {
    /// Calls in flight in the lower bits, successes above: a call that succeeds changes both in
    /// one step.
    calls: AtomicU64,
    failures: AtomicU64,
    /// The sum over the calls that were measured, in nanoseconds.
    latency: AtomicU64,
    measured: AtomicU64,
    /// The endpoint is gone: no new call. Set by the one who removes it.
    removed: AtomicBool,
    /// A failure was not yet followed by a success. Set on all seats by a failure.
    troubled: AtomicBool,
}

/// Room for a million calls in flight in one lane.
const IN_FLIGHT_BITS: u32 = 20;
const IN_FLIGHT: u64 = (1 << IN_FLIGHT_BITS) - 1;
const SUCCESS: u64 = 1 << IN_FLIGHT_BITS;

/// What a seat has counted so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    pub(crate) latency: u64,
    pub(crate) measured: u64,
}

impl Tally {
    pub(crate) const fn calls(self) -> u64 {
        self.successes.saturating_add(self.failures)
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            successes: self.successes.wrapping_add(other.successes),
            failures: self.failures.wrapping_add(other.failures),
            latency: self.latency.wrapping_add(other.latency),
            measured: self.measured.wrapping_add(other.measured),
        }
    }

    pub(crate) const fn minus(self, earlier: Self) -> Self {
        Self {
            successes: self.successes.wrapping_sub(earlier.successes),
            failures: self.failures.wrapping_sub(earlier.failures),
            latency: self.latency.wrapping_sub(earlier.latency),
            measured: self.measured.wrapping_sub(earlier.measured),
        }
    }

    pub(crate) fn mean_latency(self) -> Option<Duration> {
        self.latency.checked_div(self.measured).map(Duration::from_nanos)
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// `None`: it was cancelled.
    pub(crate) outcome: Option<Outcome>,
    /// When it began, if it was measured.
    pub(crate) began: Option<Moment>,
    /// Whether it was counted among the calls that a load bound looks at.
    pub(crate) bounded: bool,
}

impl Seat {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { counts: Counts::default(), node, _padding: [0; 7] }
    }

    pub(crate) const fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Begins a call, unless the endpoint is gone.
    ///
    /// Either the one who removes it sees the call, or the call sees that it is removed.
    pub(crate) fn enter(&self) -> bool {
        self.counts.calls.fetch_add(1, Ordering::AcqRel);
        self.stays_if_not_removed()
    }

    /// Begins a call if there are fewer than `cap`, in one step. For endpoints of one lane.
    pub(crate) fn enter_within(&self, cap: u64) -> bool {
        let next = |calls| (calls & IN_FLIGHT < cap).then_some(calls + 1);
        let entered =
            self.counts.calls.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next).is_ok();
        entered && self.stays_if_not_removed()
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.counts.removed.load(Ordering::Acquire)
    }

    fn stays_if_not_removed(&self) -> bool {
        if self.counts.removed.load(Ordering::Acquire) {
            let happened = self.leave_quietly(0);
            self.node.fleet().tell(&self.node, happened);
            return false;
        }
        true
    }

    /// Takes a call off the count, and adds what came of it.
    fn leave_quietly(&self, successes: u64) -> Option<BalanceEvent> {
        self.counts.calls.fetch_add((successes * SUCCESS).wrapping_sub(1), Ordering::AcqRel);
        self.counts.removed.load(Ordering::Acquire).then(|| self.node.drained()).flatten()
    }

    /// Ends a call.
    pub(crate) fn leave(&self, ending: Ending) {
        let fleet = self.node.fleet();
        if ending.bounded {
            fleet.leave_bounded();
        }
        match ending.outcome {
            Some(Outcome::Success) => {
                if self.counts.troubled.load(Ordering::Relaxed) {
                    self.node.record_success();
                }
            }
            Some(Outcome::Failure | Outcome::Timeout) => {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                fleet.record_failure(&self.node);
            }
            Some(Outcome::Ignored) | None => {}
        }
        if let Some(began) = ending.began {
            self.measure(ending.outcome, began);
        }
        // Last, so that who sees the endpoint drained sees its counts.
        let is_success = ending.outcome == Some(Outcome::Success);
        let happened = self.leave_quietly(u64::from(is_success));
        fleet.tell(&self.node, happened);
    }

    fn measure(&self, outcome: Option<Outcome>, began: Moment) {
        let now = self.node.fleet().clock().now();
        let took = now.since(began);
        if outcome == Some(Outcome::Success) {
            let nanos = super::clock::saturating_nanos(took);
            self.counts.latency.fetch_add(nanos, Ordering::Relaxed);
            self.counts.measured.fetch_add(1, Ordering::Relaxed);
        }
        self.node.measure(outcome, took, now);
        self.node.fleet().see_latency(now);
    }

    /// Calls in flight, no matter how recent. A write that writes nothing: the next call to begin
    /// or to end sees what the reader did before, in whatever order the two come.
    pub(super) fn in_flight_now(&self) -> u64 {
        self.counts.calls.fetch_add(0, Ordering::AcqRel) & IN_FLIGHT
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.counts.calls.load(Ordering::Relaxed) & IN_FLIGHT
    }

    pub(crate) fn tally(&self) -> Tally {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tally {
            successes: load(&self.counts.calls) >> IN_FLIGHT_BITS,
            failures: load(&self.counts.failures),
            latency: load(&self.counts.latency),
            measured: load(&self.counts.measured),
        }
    }

    pub(super) fn mark_removed(&self) {
        self.counts.removed.store(true, Ordering::Release);
    }

    pub(super) fn mark_troubled(&self, troubled: bool) {
        self.counts.troubled.store(troubled, Ordering::Relaxed);
    }
}

#[cfg(all(test, outrigger_loom))]
mod loom {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use ::loom::{model, thread};
    use tokio::time::Instant;

    use super::{Ending, Seat};
    use crate::{
        BalanceEvent, BalancePolicy, EndpointInfo,
        engine::{Clock, Fleet, Node},
    };

    /// An endpoint of so many lanes, and how often it was said to be drained.
    fn endpoint(lanes: usize) -> (Arc<Node>, Vec<Arc<Seat>>, Arc<AtomicU64>) {
        let policy = BalancePolicy::builder().ejection(None).seed(1).build().unwrap();
        let fleet = Arc::new(Fleet::new(Clock::starting(Instant::now()), &policy));
        let drained = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&drained);
        fleet.set_observer(move |_: &str, event: &BalanceEvent| {
            if *event == BalanceEvent::Drained {
                told.fetch_add(1, Ordering::SeqCst);
            }
        });
        let (node, seats) = Node::new(&EndpointInfo::new("a"), &fleet, lanes);
        (node, seats, drained)
    }

    const CANCELLED: Ending = Ending { outcome: None, began: None, bounded: false };

    #[test]
    fn loom_no_call_begins_after_the_drain_and_the_drain_is_told_once() {
        for lanes in [1, 2] {
            model(move || {
                let (node, seats, drained) = endpoint(lanes);
                let callers: Vec<_> = (0..2)
                    .map(|caller| {
                        let seat = Arc::clone(&seats[caller % lanes]);
                        let drained = Arc::clone(&drained);
                        thread::spawn(move || {
                            if seat.enter() {
                                assert_eq!(drained.load(Ordering::SeqCst), 0, "after the drain");
                                seat.leave(CANCELLED);
                            }
                        })
                    })
                    .collect();
                let (_, event) = node.remove();
                node.fleet().tell(&node, event);
                for caller in callers {
                    caller.join().unwrap();
                }
                assert_eq!(drained.load(Ordering::SeqCst), 1);
                assert_eq!(node.in_flight(), 0);
            });
        }
    }

    #[test]
    fn loom_a_bound_is_never_passed() {
        model(|| {
            let (node, seats, _) = endpoint(1);
            let callers: Vec<_> = (0..2)
                .map(|_| {
                    let seat = Arc::clone(&seats[0]);
                    thread::spawn(move || seat.enter_within(1))
                })
                .collect();
            let entered = callers.into_iter().map(|caller| caller.join().unwrap());
            assert_eq!(entered.filter(|entered| *entered).count(), 1);
            assert_eq!(node.in_flight(), 1);
        });
    }
}
