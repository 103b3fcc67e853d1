//! What a call takes while none has to queue, and the guard against learning a queue as normal.

mod knee;
mod noise;

use self::{
    knee::{History, Knee, Point},
    noise::Noise,
};

/// The smoothed latency goes at most so far towards what is measured, with a window.
const SMOOTHING: f64 = 0.3;
/// The square of what the latency may change from one window to the next.
const WANDER: f64 = 2e-4;
/// And of what it may change within a window in which the limit keeps nobody out.
const JUMP: f64 = 5e-3;
/// The limit stays where it is for so many windows at first.
const LEARNING: u32 = 4;
/// Until the normal latency is known as well as this, it is the average of the windows.
const KNOWN: f64 = 0.03;
/// How far the normal latency goes towards what the last windows say, while they contradict it.
const TOWARDS: f64 = 0.5;
/// And while they only make it unlikely.
const CREEPING: f64 = 0.1;
/// How much lower than what was thought normal the next guess is, when that was a queue, and how
/// far it may be off.
const NEXT_GUESS: f64 = 0.87;
const GUESSED: f64 = 0.06;
const NEAR: f64 = 0.08;
/// What was not contradicted by a window is known so much better.
const SURER: f64 = 0.95;
/// A latency that is so much off what the last windows let expect is another callee's: so many
/// standard deviations, and at least this share.
const OTHER_SIGMAS: f64 = 4.0;
const OTHER_SHARE: f64 = 0.12;
/// And so are latencies that are off by less, but one after the other the same way.
const DRIFT: f64 = 0.3;
const DRIFT_SIGMAS: f64 = 1.7;
const DRIFT_SHARE: f64 = 0.04;
const DRIFT_FEWEST: usize = 8;
/// So many standard errors are no queue yet, beyond what a steady callee shows whose latencies vary
/// little: its square.
const ERRORS: f64 = 1.95;
const STEADY: f64 = 1.2e-3;
/// Down to this share of the most calls that were seen in flight, the limit may go before it was
/// seen that fewer are done faster.
const CONFIRM: f64 = 0.67;

/// What a window showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Calls in flight on average.
    pub(super) calls: f64,
    /// On average, in seconds.
    pub(super) latency: f64,
    /// The mean of the squares of latencies.
    pub(super) square: f64,
    /// How many calls that is of.
    pub(super) count: f64,
    /// Whether the limit was reached.
    pub(super) is_reached: bool,
    /// Whether it kept calls out all the time.
    pub(super) is_bound: bool,
}

/// What is thought to be so, and the square of how far it may be off.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    value: f64,
    variance: f64,
}

/// Knows the normal latency.
///
/// Below the callee's capacity more calls at once bring more throughput at the same latency; above
/// it they bring latency alone. failsafe-go and Uber's Cinnamon tell the two apart by how calls in
/// flight are correlated with throughput and with latency over the last 50 windows. So does this,
/// by the knee that fits these windows best, each by how well its mean is known.
///
/// The normal latency is kept while it explains them, and changed no further than they force it.
/// Above the capacity they bear any, so a queue that stays is never learnt.
#[derive(Debug)]
pub(super) struct Guard {
    /// All of them logarithms of seconds; none before the first window.
    normal: Option<Estimate>,
    smooth: Estimate,
    /// The calls in flight in the window before.
    calls: f64,
    history: History,
    /// By how much the last latencies were off what the windows before let expect; and in standard
    /// deviations.
    drift: (f64, f64),
    /// Whether calls were ever seen not to queue at this callee.
    has_seen_flat: bool,
    /// Whether the callee is still the one of the first window.
    is_first: bool,
    is_sure: bool,
    windows: u32,
}

impl Guard {
    pub(super) const fn new() -> Self {
        Self {
            normal: None,
            smooth: Estimate { value: 0.0, variance: 0.0 },
            calls: 0.0,
            history: History::new(Noise::new()),
            drift: (0.0, 0.0),
            has_seen_flat: false,
            is_first: true,
            is_sure: false,
            windows: 0,
        }
    }

    /// In seconds.
    pub(super) fn normal(&self) -> Option<f64> {
        self.normal.map(|normal| normal.value.exp())
    }

    /// The latency of the last windows, in seconds, as far above the normal one as is certain: by
    /// 1.95 standard errors less than what was measured, without the error that a steady callee has
    /// too. As it would be with `limit` calls in
    /// flight, if that is given: random arrivals leave places empty now and then, even under
    /// overload.
    pub(super) fn certain(&self, limit: Option<f64>) -> Option<f64> {
        let normal = self.normal?;
        let smooth = limit.map_or(self.smooth.value, |limit| self.smooth_at(normal.value, limit));
        let error = (self.smooth.variance + normal.variance - STEADY).max(0.0).sqrt();
        let more = smooth - normal.value;
        let more = if more > 0.0 { (more - ERRORS * error).max(0.0) } else { more };
        Some((normal.value + more).exp())
    }

    fn smooth_at(&self, normal: f64, calls: f64) -> f64 {
        let Some(best) = self.history.best() else { return self.smooth.value };
        if !self.history.contradicts(&self.history.none_queues(), &best) {
            return self.smooth.value;
        }
        let knee = self.history.with_normal(normal);
        let more = knee.queued_at(calls.ln()) - knee.queued_at(self.calls);
        self.smooth.value + more.max(0.0)
    }

    /// Whether the last windows tell anything. If not, something has to vary.
    pub(super) const fn is_sure(&self) -> bool {
        self.is_sure
    }

    /// Whether these are the first windows, from which the normal latency is learnt.
    pub(super) const fn is_learning(&self) -> bool {
        self.is_first && self.windows <= LEARNING
    }

    /// The standard error of the smoothed latency, as a share of it.
    pub(super) fn error(&self) -> f64 {
        self.smooth.variance.sqrt()
    }

    /// How many calls a window needs.
    pub(super) fn samples(&self, least: u32) -> u32 {
        self.history.noise().samples(least)
    }

    /// With fewer calls in flight than that it was not yet seen whether they are done faster. A
    /// callee whose work became slower gains nothing by a lower limit.
    pub(super) fn confirmed(&self) -> f64 {
        if self.history.len() == 0 {
            return f64::INFINITY;
        }
        let bound = self.history.only_bound();
        let is_faster = |best| bound.contradicts(&bound.none_queues(), &best);
        let (_, most) = self.history.fewest_and_most();
        if bound.best().is_some_and(is_faster) { 0.0 } else { CONFIRM * most.exp() }
    }

    /// Learns of one window.
    pub(super) fn note(&mut self, seen: &Seen) {
        if !(seen.calls > 0.0 && seen.latency > 0.0) {
            return;
        }
        let usual = self.normal.map_or(0.0, |_| self.smooth.value.exp());
        let mut noise = self.history.noise();
        noise.note(seen.latency, seen.square, seen.count, usual);
        self.history.set_noise(noise);
        self.windows = self.windows.saturating_add(1);
        // When the first window ends, only its short calls have.
        if self.windows == 1 {
            return;
        }
        let point = self.point(seen);
        let variance = self.history.variance_of(&point);
        let Some(normal) = self.normal else {
            let first = Estimate { value: point.latency, variance };
            (self.normal, self.smooth, self.calls) = (Some(first), first, point.calls);
            self.history.push(point);
            return;
        };
        if self.is_other(&point) {
            self.history = History::new(self.history.noise());
            (self.drift, self.has_seen_flat, self.is_first) = ((0.0, 0.0), false, false);
            (self.smooth, self.calls) = (Estimate { value: point.latency, variance }, point.calls);
            // This window has calls of both callees; it tells nothing of the new one.
            return;
        }
        self.history.push(point);
        let normal = self.next_normal(normal, seen.is_reached);
        self.normal = Some(normal);
        self.smooth_with(&point, normal.value);
    }

    /// While the limit keeps nobody out, calls that take longer by chance are more in flight, and
    /// look like a queue. Where the limit does not hold the calls in flight, they are those that
    /// would have been had they taken as long as the calls before.
    fn point(&self, seen: &Seen) -> Point {
        let (calls, latency) = (seen.calls.ln(), seen.latency.ln());
        let point = Point { calls, latency, count: seen.count, is_bound: seen.is_bound };
        if seen.is_bound || self.normal.is_none() {
            return point;
        }
        let variance = self.history.variance_of(&point);
        let off =
            (latency - self.smooth.value).clamp(-2.0 * variance.sqrt(), 2.0 * variance.sqrt());
        Point { calls: calls - off * variance / (JUMP + variance), ..point }
    }

    fn is_other(&mut self, point: &Point) -> bool {
        let history = &self.history;
        let Some(knee) = history.best() else { return false };
        let off = point.latency - knee.latency_at(point.calls);
        let variance = history.variance_of(point) + history.variance();
        let sigma = (history.excess(&knee) * variance).sqrt();
        let (share, sigmas) = &mut self.drift;
        *share += DRIFT * (off - *share);
        *sigmas += DRIFT * (off / sigma - *sigmas);
        off.abs() > (OTHER_SIGMAS * sigma).max(OTHER_SHARE)
            || history.len() >= DRIFT_FEWEST
                && share.abs() > DRIFT_SHARE
                && sigmas.abs() > DRIFT_SIGMAS
    }

    fn next_normal(&mut self, normal: Estimate, is_reached: bool) -> Estimate {
        let history = &self.history;
        let is_known = normal.variance <= KNOWN * KNOWN || !self.is_first;
        let none_queues = history.none_queues();
        let mean = Estimate { value: none_queues.normal, variance: history.variance() };
        let Some(best) = history.best() else { return if is_known { normal } else { mean } };
        let excess = history.excess(&best);
        let all_queue = history.all_queue();
        self.is_sure = history.tells_apart(&all_queue, &none_queues);
        let sees_flat = history.contradicts(&all_queue, &best);
        self.has_seen_flat |= sees_flat;
        if !is_known && !history.doubts(&none_queues, &best) {
            return Estimate { variance: mean.variance * excess, ..mean };
        }
        if !self.has_seen_flat && is_reached && self.is_queue(normal.value, &best) {
            let value = normal.value.min(all_queue.normal + NEXT_GUESS.ln());
            return Estimate { value, variance: normal.variance.max(GUESSED * GUESSED) };
        }
        let to = |share: f64| normal.value + share * (best.normal - normal.value);
        if !is_known && sees_flat || history.contradicts(&history.with_normal(normal.value), &best)
        {
            let variance = normal.variance.max(mean.variance * excess);
            return Estimate { value: to(TOWARDS), variance };
        }
        // Under an overload that stays, this would learn the queue little by little.
        if !is_reached && best.normal > normal.value && history.doubts(&all_queue, &best) {
            return Estimate { value: to(CREEPING), ..normal };
        }
        let surer = (normal.variance * SURER).max(normal.variance.min(KNOWN * KNOWN));
        Estimate { variance: if self.has_seen_flat { surer } else { normal.variance }, ..normal }
    }

    /// Whether there was a queue even at what was thought to be without one.
    fn is_queue(&self, normal: f64, best: &Knee) -> bool {
        let all_queue = self.history.all_queue();
        best.capacity <= all_queue.capacity
            && all_queue.normal <= normal + NEAR
            && self.history.contradicts(&self.history.none_queues(), best)
    }

    /// What is known to go with the calls in flight has gone with them already.
    fn smooth_with(&mut self, point: &Point, normal: f64) {
        let knee = self.history.with_normal(normal);
        let grown = knee.queued_at(point.calls) - knee.queued_at(self.calls);
        let grown = if self.history.best().is_some() { grown } else { 0.0 };
        let expected = self.smooth.value + grown;
        let (before, measured) = (self.smooth.variance + WANDER, self.history.variance_of(point));
        // A Kalman filter: the less a window is to be trusted, the less far the latency follows.
        let gain = (before / (before + measured)).min(SMOOTHING);
        self.smooth = Estimate {
            value: expected + gain * (point.latency - expected),
            variance: (1.0 - gain).powi(2) * before + gain.powi(2) * measured,
        };
        self.calls = point.calls;
    }
}

#[cfg(test)]
mod tests;
