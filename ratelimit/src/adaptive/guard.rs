//! What a call takes while none has to queue, and the guard against learning a queue as normal.

mod knee;

use self::knee::History;

/// How far the smoothed latency goes towards what is measured, with a window.
const SMOOTHING: f64 = 0.3;
/// The average of so many windows is taken for normal at first.
const LEARNING: i32 = 1;
/// How far the normal latency goes towards what the last windows say, while they contradict it.
const TOWARDS: f64 = 0.25;
/// How much lower than what was thought normal the next guess is, when that was a queue.
const NEXT_GUESS: f64 = 0.87;
const NEAR: f64 = 0.05;
/// A latency that is so much off what the last windows let expect is another callee's: so many
/// standard deviations, and at least this share.
const OTHER_SIGMAS: f64 = 4.0;
const OTHER_SHARE: f64 = 0.12;
/// And so are latencies that are off by less, but one after the other the same way.
const DRIFT: f64 = 0.3;
const DRIFT_SIGMAS: f64 = 1.7;
const DRIFT_SHARE: f64 = 0.04;
const DRIFT_FEWEST: usize = 8;

/// Knows the normal latency.
///
/// Below the callee's capacity more calls at once bring more throughput at the same latency; above
/// it they bring latency alone. failsafe-go and Uber's Cinnamon tell the two apart by how calls in
/// flight are correlated with throughput and with latency over the last 50 windows. So does this,
/// by the knee that fits these windows best.
///
/// The normal latency is kept while it explains them, and changed no further than they force it.
/// Above the capacity they bear any, so a queue that stays is never learnt.
#[derive(Debug)]
pub(super) struct Guard {
    /// All of them logarithms of seconds; none before the first window.
    normal: Option<f64>,
    smooth: f64,
    /// The calls in flight in the window before.
    calls: f64,
    history: History,
    /// By how much the last latencies were off what the windows before let expect.
    drift: f64,
    /// Whether calls were ever seen not to queue.
    has_seen_flat: bool,
    is_sure: bool,
    /// How many windows there were, but for the first.
    windows: i32,
}

impl Guard {
    pub(super) const fn new() -> Self {
        Self {
            normal: None,
            smooth: 0.0,
            calls: 0.0,
            drift: 0.0,
            history: History::new(),
            has_seen_flat: false,
            is_sure: false,
            windows: -1,
        }
    }

    /// In seconds.
    pub(super) fn normal(&self) -> Option<f64> {
        self.normal.map(f64::exp)
    }

    /// The latency of the last windows, in seconds.
    pub(super) fn smooth(&self) -> f64 {
        self.smooth.exp()
    }

    /// The latency of the last windows, in seconds, as it would be with so many calls in flight.
    /// Random arrivals leave places empty now and then, even under overload.
    pub(super) fn smooth_at(&self, calls: f64) -> f64 {
        let Some(normal) = self.normal else { return self.smooth() };
        let Some(best) = self.history.best() else { return self.smooth() };
        if !self.history.contradicts(&self.history.none_queues(), &best) {
            return self.smooth();
        }
        let knee = self.history.with_normal(normal);
        let more = knee.queued_at(calls.ln()) - knee.queued_at(self.calls);
        (self.smooth + more.max(0.0)).exp()
    }

    /// Whether the last windows tell anything. If not, something has to vary.
    pub(super) const fn is_sure(&self) -> bool {
        self.is_sure
    }

    /// Learns of one window: calls in flight on average, latency in seconds, and whether the limit
    /// was reached.
    pub(super) fn note(&mut self, calls: f64, latency: f64, reached: bool) {
        if !(calls > 0.0 && latency > 0.0) {
            return;
        }
        self.windows = self.windows.saturating_add(1);
        // When the first window ends, only its short calls have.
        if self.windows == 0 {
            return;
        }
        let (calls, latency) = (calls.ln(), latency.ln());
        let Some(normal) = self.normal else {
            (self.normal, self.smooth, self.calls) = (Some(latency), latency, calls);
            self.history.push((calls, latency));
            return;
        };
        let is_other = self.is_other(calls, latency);
        if is_other {
            (self.history, self.drift) = (History::new(), 0.0);
        }
        self.history.push((calls, latency));
        let normal = self.next_normal(normal, latency, reached);
        self.normal = Some(normal);
        self.smooth_with(calls, latency, normal, is_other);
    }

    fn is_other(&mut self, calls: f64, latency: f64) -> bool {
        let Some(knee) = self.history.best() else { return false };
        let off = latency - knee.latency_at(calls);
        let sigma = self.history.sigma(&knee);
        self.drift += DRIFT * (off - self.drift);
        off.abs() > (OTHER_SIGMAS * sigma).max(OTHER_SHARE)
            || self.history.len() >= DRIFT_FEWEST
                && self.drift.abs() > (DRIFT_SIGMAS * sigma).max(DRIFT_SHARE)
    }

    fn next_normal(&mut self, normal: f64, latency: f64, reached: bool) -> f64 {
        if self.windows <= LEARNING {
            return normal + (latency - normal) / f64::from(self.windows);
        }
        let Some(best) = self.history.best() else { return normal };
        let history = &self.history;
        self.is_sure = history.tells_apart(&history.all_queue(), &history.none_queues());
        self.has_seen_flat |= history.contradicts(&history.all_queue(), &best);
        let lowest = history.all_queue().normal;
        if !self.has_seen_flat
            && reached
            && history.contradicts(&history.none_queues(), &best)
            && lowest <= normal + NEAR
        {
            // There was a queue even at what was thought to be without one.
            return normal.min(lowest + NEXT_GUESS.ln());
        }
        if history.contradicts(&history.with_normal(normal), &best) {
            normal + TOWARDS * (best.normal - normal)
        } else {
            normal
        }
    }

    /// What is known to go with the calls in flight has gone with them already.
    fn smooth_with(&mut self, calls: f64, latency: f64, normal: f64, is_other: bool) {
        if is_other {
            self.smooth = latency;
        } else {
            let knee = self.history.with_normal(normal);
            let grown = knee.queued_at(calls) - knee.queued_at(self.calls);
            let expected = self.smooth + if self.history.best().is_some() { grown } else { 0.0 };
            self.smooth = expected + SMOOTHING * (latency - expected);
        }
        self.calls = calls;
    }
}
