use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64 as Statistic},
    },
    time::Duration,
};

use outrigger_core::Outcome;

use super::{Node, Stamp, clock::saturating_nanos};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Where the calls of one lane to one endpoint are counted: a cache line, so that threads in
/// different lanes share none, and a call touches no other line of its endpoint.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Seat {
    /// Calls in flight in the lower bits, successes above: a call that succeeds changes both in
    /// one step.
    calls: AtomicU64,
    failures: AtomicU64,
    /// The sum over the calls that were measured while a rule asked for it, in nanoseconds.
    latency: AtomicU64,
    measured: AtomicU64,
    /// A moving mean of the latency in nanoseconds, for reports; 0 before the first.
    mean: Statistic,
    /// Set when the endpoint takes the seat.
    node: OnceLock<Arc<Node>>,
    /// How many of the calls in flight all threads are shown.
    shown: AtomicU32,
    /// The endpoint is gone: no new call. Set by the one who removes it.
    removed: AtomicBool,
    /// A failure was not yet followed by a success, or the endpoint is on probation: then its
    /// successes are looked at. Set on all seats.
    troubled: AtomicBool,
}

/// Room for 16 million calls in flight from one lane to one endpoint: their memory alone, a
/// kilobyte each, would be 16 GB, so nothing guards it. Beyond that the count would carry into the
/// successes, and borrow it back as the calls end. 40 bits are left for successes.
const IN_FLIGHT_BITS: u32 = 24;
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

/// What is to be known when a call ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// `None`: it was cancelled, or is not over yet.
    pub(crate) outcome: Option<Outcome>,
    /// When it began, if it was measured.
    pub(crate) began: Option<Stamp>,
    /// Whether it was counted among the calls that a load bound looks at.
    pub(crate) bounded: bool,
    pub(crate) shown: Shown,
}

/// Whether other threads see a call in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// No, and no picker asks.
    Never,
    /// They will when it waits for the first time.
    OnceItWaits,
    Yes,
}

/// A seat, held by a call: what a bank's owners are is counted in the lane of the bank.
#[derive(Clone, Debug)]
pub(crate) struct Seated {
    bank: Arc<[Seat]>,
    at: u32,
}

impl Seated {
    pub(crate) const fn new(bank: Arc<[Seat]>, at: u32) -> Self {
        Self { bank, at }
    }
}

impl std::ops::Deref for Seated {
    type Target = Seat;

    fn deref(&self) -> &Seat {
        &self.bank[self.at as usize]
    }
}

impl Seat {
    pub(super) fn take(&self, node: &Arc<Node>) {
        let _first = self.node.set(Arc::clone(node));
    }

    /// Whose seat it is.
    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.node.get()
    }

    /// Begins a call, unless the endpoint is gone.
    ///
    /// Either the one who removes it sees the call, or the call sees that it is removed.
    pub(crate) fn enter(&self) -> bool {
        self.calls.fetch_add(1, Ordering::AcqRel);
        if !self.is_removed() {
            return true;
        }
        self.leave_quietly(0);
        false
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Takes a call off the count, adds what came of it, and tells when that was the last one on
    /// an endpoint that is gone.
    fn leave_quietly(&self, successes: u64) {
        self.calls.fetch_add((successes * SUCCESS).wrapping_sub(1), Ordering::AcqRel);
        if self.is_removed() {
            self.drained();
        }
    }

    #[cold]
    fn drained(&self) {
        if let Some(node) = self.node() {
            node.fleet().tell(node, node.drained());
        }
    }

    /// Shows a call to all threads.
    pub(crate) fn show(&self) {
        self.shown.fetch_add(1, Ordering::Relaxed);
        if let Some(node) = self.node() {
            node.load().show();
        }
    }

    /// A call was shown by who picked.
    pub(crate) fn was_shown(&self) {
        self.shown.fetch_add(1, Ordering::Relaxed);
    }

    fn hide(&self) {
        self.shown.fetch_sub(1, Ordering::Relaxed);
        if let Some(node) = self.node() {
            node.load().hide();
        }
    }

    /// Ends a call.
    pub(crate) fn leave(&self, ending: &Ending) {
        if ending.bounded {
            self.leave_bounded();
        }
        if ending.shown == Shown::Yes {
            self.hide();
        }
        let is_success = ending.outcome == Some(Outcome::Success);
        if !is_success || self.troubled.load(Ordering::Relaxed) {
            self.judge(ending.outcome);
        }
        if let Some(began) = ending.began {
            self.measure(ending.outcome, began);
        }
        // Last, so that who sees the endpoint drained sees its counts.
        self.leave_quietly(u64::from(is_success));
    }

    #[cold]
    fn leave_bounded(&self) {
        if let Some(node) = self.node() {
            node.fleet().leave_bounded();
        }
    }

    /// Takes in how a call ended that was no mere success on a healthy endpoint.
    #[cold]
    fn judge(&self, outcome: Option<Outcome>) {
        let Some(node) = self.node() else { return };
        match outcome {
            Some(Outcome::Success) => node.record_success(),
            Some(Outcome::Failure | Outcome::Timeout) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                node.fleet().record_failure(node);
            }
            Some(Outcome::Ignored) | None => {}
        }
    }

    fn measure(&self, outcome: Option<Outcome>, began: Stamp) {
        let Some(node) = self.node() else { return };
        let fleet = node.fleet();
        let now = fleet.clock().now();
        let took = now.since(began);
        if outcome == Some(Outcome::Success) {
            let nanos = saturating_nanos(took).max(1);
            let mean = self.mean.load(Ordering::Relaxed);
            let next = if mean == 0 { nanos } else { mean - mean / 16 + nanos / 16 };
            // Of two calls that end at once one may be lost to the mean; reports can bear it.
            self.mean.store(next, Ordering::Relaxed);
            if fleet.sums_latencies() {
                self.latency.fetch_add(nanos, Ordering::Relaxed);
                self.measured.fetch_add(1, Ordering::Relaxed);
            }
        }
        node.measure(outcome, took, now);
        fleet.see_latency(now);
    }

    /// Calls in flight, no matter how recent. A write that writes nothing: the next call to begin
    /// or to end sees what the reader did before, in whatever order the two come.
    pub(super) fn in_flight_now(&self) -> u64 {
        self.calls.fetch_add(0, Ordering::AcqRel) & IN_FLIGHT
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.calls.load(Ordering::Relaxed) & IN_FLIGHT
    }

    /// Calls in flight that other threads do not see yet.
    pub(crate) fn in_flight_unshown(&self) -> u64 {
        self.in_flight().saturating_sub(u64::from(self.shown.load(Ordering::Relaxed)))
    }

    pub(super) fn mean_latency_nanos(&self) -> Option<u64> {
        Some(self.mean.load(Ordering::Relaxed)).filter(|mean| *mean != 0)
    }

    pub(crate) fn tally(&self) -> Tally {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tally {
            successes: load(&self.calls) >> IN_FLIGHT_BITS,
            failures: load(&self.failures),
            latency: load(&self.latency),
            measured: load(&self.measured),
        }
    }

    pub(super) fn mark_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    /// A swap, not a store: whoever marks the seat next sees what was done before.
    pub(super) fn mark_troubled(&self, troubled: bool) {
        self.troubled.swap(troubled, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(outrigger_loom)))]
mod tests {
    use super::*;

    #[test]
    fn calls_beyond_the_room_for_those_in_flight_leave_the_counts_right_once_they_end() {
        let many = 10_000_000;
        let seat = Seat { calls: AtomicU64::new(7 * SUCCESS + many), ..Seat::default() };
        assert_eq!((seat.in_flight(), seat.tally().successes), (many, 7));
        let seat = Seat { calls: AtomicU64::new(7 * SUCCESS + IN_FLIGHT), ..Seat::default() };
        assert!(seat.enter() && seat.enter());
        (0..2).for_each(|_| seat.leave_quietly(1));
        assert_eq!((seat.in_flight(), seat.tally().successes), (IN_FLIGHT, 9));
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

    use std::time::Duration;

    use outrigger_core::Outcome;

    use super::{Ending, Seated, Shown};
    use crate::{
        BalanceEvent, BalancePolicy, EndpointInfo,
        engine::{Block, Clock, Fleet, Node, Stamp},
    };

    /// An endpoint of so many lanes, and how often it was said to be drained.
    fn endpoint(lanes: usize) -> (Arc<Node>, Vec<Seated>, Arc<AtomicU64>) {
        let policy = BalancePolicy::builder().ejection(None).seed(1).build().unwrap();
        let fleet = Arc::new(Fleet::new(Clock::starting(Instant::now()), &policy));
        let drained = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&drained);
        fleet.set_observer(move |_: &str, event: &BalanceEvent| {
            if *event == BalanceEvent::Drained {
                told.fetch_add(1, Ordering::SeqCst);
            }
        });
        let block = Block::new(1, lanes);
        let node = Node::new(&EndpointInfo::new("a"), &fleet, &block, 0);
        let seats = block.banks().iter().map(|bank| Seated::new(Arc::clone(bank), 0)).collect();
        (node, seats, drained)
    }

    const CANCELLED: Ending =
        Ending { outcome: None, began: None, bounded: false, shown: Shown::Never };

    #[test]
    fn loom_no_call_begins_after_the_drain_and_the_drain_is_told_once() {
        for lanes in [1, 2] {
            model(move || {
                let (node, seats, drained) = endpoint(lanes);
                let callers: Vec<_> = (0..2)
                    .map(|caller| {
                        let seat = seats[caller % lanes].clone();
                        let drained = Arc::clone(&drained);
                        thread::spawn(move || {
                            if seat.enter() {
                                assert_eq!(drained.load(Ordering::SeqCst), 0, "after the drain");
                                seat.leave(&CANCELLED);
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
    const SERVED: Ending = Ending { outcome: Some(Outcome::Success), ..CANCELLED };

    fn serve(seat: &Seated) {
        assert!(seat.enter());
        seat.leave(&SERVED);
    }

    fn at_hour(hour: u64) -> Stamp {
        Stamp::from_nanos(hour * 3_600_000_000_000 + 1).unwrap()
    }

    fn fail(node: &Node, at: Stamp) -> (u32, Duration) {
        node.record_failure(at, Duration::ZERO)
    }

    #[test]
    fn loom_failures_that_cross_never_go_by_the_time_of_an_older_streak() {
        model(|| {
            let (node, seats, _) = endpoint(1);
            fail(&node, at_hour(0));
            serve(&seats[0]);
            let other = Arc::clone(&node);
            let other = thread::spawn(move || fail(&other, at_hour(1)));
            let failures = [fail(&node, at_hour(1)), other.join().unwrap()];
            assert_eq!(failures.map(|(_, since_first)| since_first), [Duration::ZERO; 2]);
            assert_eq!(failures.map(|(streak, _)| streak).iter().sum::<u32>(), 1 + 2);
        });
    }

    #[test]
    fn loom_no_failure_that_crosses_successes_is_hidden_from_the_next_success() {
        for lanes in [1, 2] {
            model(move || {
                let (node, seats, _) = endpoint(lanes);
                fail(&node, at_hour(0));
                let last = seats[lanes - 1].clone();
                let success = thread::spawn(move || serve(&last));
                let failing = Arc::clone(&node);
                let failure = thread::spawn(move || fail(&failing, at_hour(1)));
                serve(&seats[0]);
                success.join().unwrap();
                failure.join().unwrap();
                serve(&seats[0]);
                assert_eq!(node.failures_in_row(), 0);
            });
        }
    }

    #[test]
    fn loom_no_success_that_crosses_the_begin_of_a_probation_hides_it() {
        for lanes in [1, 2] {
            model(move || {
                let (node, seats, _) = endpoint(lanes);
                fail(&node, at_hour(0));
                let seat = seats[lanes - 1].clone();
                let success = thread::spawn(move || serve(&seat));
                node.begin_probation(2);
                success.join().unwrap();
                (0..2).for_each(|_| serve(&seats[0]));
                assert!(!node.is_on_probation());
            });
        }
    }
}
