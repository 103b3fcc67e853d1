//! How latency goes with the calls in flight: level up to the capacity, and in proportion above.

use super::noise::Noise;

/// How many windows are looked at (failsafe-go, Cinnamon).
const WINDOWS: usize = 50;
/// Fewer tell nothing.
const FEWEST: usize = 3;
/// So many capacities are tried.
const TRIED: u32 = 16;
/// What fits worse than the best by so many variances is contradicted: three standard deviations.
const CONTRADICTED: f64 = 9.0;
/// What fits worse by so many is unlikely: two standard deviations.
const UNLIKELY: f64 = 4.0;

/// What a window showed. Calls in flight and latency are logarithms: what is proportional is a
/// line there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) calls: f64,
    pub(super) latency: f64,
    /// How many calls `latency` is the mean of.
    pub(super) count: f64,
    /// Whether the limit held the calls in flight where they were.
    pub(super) is_bound: bool,
}

/// The last windows.
#[derive(Clone, Debug)]
pub(super) struct History {
    points: [Point; WINDOWS],
    /// One over the variance of each.
    weights: [f64; WINDOWS],
    next: usize,
    len: usize,
    noise: Noise,
}

/// A callee: its latency while no call queues, and how many it can do at once. Logarithms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knee {
    pub(super) normal: f64,
    pub(super) capacity: f64,
    /// The sum of the squares by which the windows are off, in their variances.
    off: f64,
}

impl Knee {
    /// By how much calls that are so many take longer than normal.
    pub(super) fn queued_at(&self, calls: f64) -> f64 {
        (calls - self.capacity).max(0.0)
    }

    pub(super) fn latency_at(&self, calls: f64) -> f64 {
        self.normal + self.queued_at(calls)
    }
}

impl History {
    pub(super) const fn new(noise: Noise) -> Self {
        let none = Point { calls: 0.0, latency: 0.0, count: 1.0, is_bound: false };
        Self { points: [none; WINDOWS], weights: [0.0; WINDOWS], next: 0, len: 0, noise }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn noise(&self) -> Noise {
        self.noise
    }

    /// How far the windows are to be trusted, from what is known now.
    pub(super) fn set_noise(&mut self, noise: Noise) {
        self.noise = noise;
        for (weight, point) in self.weights.iter_mut().zip(&self.points[..self.len]) {
            *weight = 1.0 / noise.of_a_mean(point.count);
        }
    }

    pub(super) fn push(&mut self, point: Point) {
        self.points[self.next] = point;
        self.weights[self.next] = 1.0 / self.variance_of(&point);
        self.next = (self.next + 1) % WINDOWS;
        if self.len < WINDOWS {
            self.len += 1;
        }
    }

    /// The windows whose calls in flight were set by the limit, and not by how long they took.
    pub(super) fn only_bound(&self) -> Self {
        let mut bound = Self::new(self.noise);
        self.iter().filter(|point| point.is_bound).for_each(|point| bound.push(*point));
        bound
    }

    fn iter(&self) -> impl Iterator<Item = &Point> {
        self.points[..self.len].iter()
    }

    /// The windows, each with how much it weighs.
    fn weighed(&self) -> impl Iterator<Item = (&Point, f64)> {
        self.iter().zip(self.weights)
    }

    #[expect(clippy::cast_precision_loss, reason = "at most 50")]
    const fn count(&self) -> f64 {
        self.len as f64
    }

    pub(super) fn variance_of(&self, point: &Point) -> f64 {
        self.noise.of_a_mean(point.count)
    }

    /// The square of the standard error of the mean of all windows.
    pub(super) fn variance(&self) -> f64 {
        1.0 / self.weights[..self.len].iter().sum::<f64>()
    }

    /// The mean of what `value` says of the windows, each by how well it is known.
    fn mean(&self, value: impl Fn(&Point) -> f64) -> f64 {
        let sum: f64 = self.weighed().map(|(point, weight)| value(point) * weight).sum();
        sum * self.variance()
    }

    /// The fewest calls in flight of a window, and the most.
    pub(super) fn fewest_and_most(&self) -> (f64, f64) {
        let range = (f64::INFINITY, f64::NEG_INFINITY);
        let widen =
            |(low, high): (f64, f64), point: &Point| (low.min(point.calls), high.max(point.calls));
        self.iter().fold(range, widen)
    }

    /// The callee of this capacity that explains the windows best.
    fn with_capacity(&self, capacity: f64) -> Knee {
        let normal = self.mean(|point| point.latency - (point.calls - capacity).max(0.0));
        self.judged(normal, capacity)
    }

    fn judged(&self, normal: f64, capacity: f64) -> Knee {
        let knee = Knee { normal, capacity, off: 0.0 };
        let square = |(point, weight): (&Point, f64)| {
            (point.latency - knee.latency_at(point.calls)).powi(2) * weight
        };
        Knee { off: self.weighed().map(square).sum(), ..knee }
    }

    /// Every window had a queue, the one with the fewest calls just about.
    pub(super) fn all_queue(&self) -> Knee {
        self.with_capacity(self.fewest_and_most().0)
    }

    /// No window had a queue.
    pub(super) fn none_queues(&self) -> Knee {
        self.with_capacity(self.fewest_and_most().1)
    }

    /// The callee that explains the windows best, if they are enough.
    pub(super) fn best(&self) -> Option<Knee> {
        if self.len < FEWEST {
            return None;
        }
        self.capacities().map(|capacity| self.with_capacity(capacity)).min_by(Self::by_fit)
    }

    /// The callee of this normal latency that explains the windows best.
    pub(super) fn with_normal(&self, normal: f64) -> Knee {
        let (fewest, _) = self.fewest_and_most();
        // Where all windows had a queue, the capacity may be below them all.
        let below = normal + self.mean(|point| point.calls - point.latency);
        let below = self.judged(normal, below.min(fewest));
        let others = self.capacities().map(|capacity| self.judged(normal, capacity));
        others.min_by(Self::by_fit).filter(|knee| knee.off < below.off).unwrap_or(below)
    }

    fn capacities(&self) -> impl Iterator<Item = f64> {
        let (fewest, most) = self.fewest_and_most();
        (0..=TRIED).map(move |step| fewest + (most - fewest) * f64::from(step) / f64::from(TRIED))
    }

    fn by_fit(a: &Knee, b: &Knee) -> std::cmp::Ordering {
        a.off.total_cmp(&b.off)
    }

    /// How many times their variance the windows are off, at least 1: more where something else
    /// varies too, the calls in flight within a window above all.
    pub(super) fn excess(&self, knee: &Knee) -> f64 {
        (knee.off / (self.count() - 2.0).max(1.0)).max(1.0)
    }

    /// Whether the windows say that it is not `knee`, where `best` is what they say.
    pub(super) fn contradicts(&self, knee: &Knee, best: &Knee) -> bool {
        knee.off - best.off > CONTRADICTED * self.excess(best)
    }

    /// Whether they say so with less certainty.
    pub(super) fn doubts(&self, knee: &Knee, best: &Knee) -> bool {
        knee.off - best.off > UNLIKELY * self.excess(best)
    }

    /// Whether the windows can say that it is one of them and not the other.
    pub(super) fn tells_apart(&self, a: &Knee, b: &Knee) -> bool {
        let (best, other) = if a.off < b.off { (a, b) } else { (b, a) };
        self.contradicts(other, best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window with so many calls in flight at a callee that has room for `capacity`, each of which
    /// takes a second: the mean of a hundred.
    fn window(calls: f64, capacity: f64) -> Point {
        let latency = (calls / capacity).max(1.0).ln();
        Point { calls: calls.ln(), latency, count: 100.0, is_bound: true }
    }

    fn history(calls: impl IntoIterator<Item = u32>, capacity: f64) -> History {
        let mut history = History::new(Noise::new());
        calls.into_iter().for_each(|calls| history.push(window(f64::from(calls), capacity)));
        history
    }

    /// How wide the places are at which a capacity is sought.
    fn grid(history: &History) -> f64 {
        let (fewest, most) = history.fewest_and_most();
        (most - fewest) / f64::from(TRIED)
    }

    #[test]
    fn the_capacity_is_found_where_the_latency_begins_to_grow() {
        for capacity in [10.0_f64, 20.0, 30.0] {
            let history = history(5..=40, capacity);
            let best = history.best().expect("windows enough");
            assert!((best.capacity - capacity.ln()).abs() <= grid(&history), "{best:?}");
            assert!(best.normal.abs() < grid(&history), "{best:?}");
            assert!(history.contradicts(&history.none_queues(), &best));
            assert!(history.contradicts(&history.all_queue(), &best));
        }
    }

    #[test]
    fn where_no_window_had_a_queue_it_is_said_so_and_the_other_way_round() {
        let flat = history(5..=19, 20.0);
        assert!(flat.tells_apart(&flat.all_queue(), &flat.none_queues()));
        assert!(!flat.doubts(&flat.none_queues(), &flat.best().expect("enough")));
        let steep = history(21..=60, 20.0);
        assert!(steep.contradicts(&steep.none_queues(), &steep.best().expect("enough")));
        assert!(!steep.doubts(&steep.all_queue(), &steep.best().expect("enough")));
    }

    #[test]
    fn windows_alike_tell_nothing_apart_and_two_tell_nothing_at_all() {
        let alike = history([30; 20], 20.0);
        assert!(!alike.tells_apart(&alike.all_queue(), &alike.none_queues()));
        assert!(history([5, 40], 20.0).best().is_none());
    }

    #[test]
    fn of_a_normal_latency_that_is_known_the_capacity_may_be_below_all_windows() {
        let history = history(25..=40, 20.0);
        let knee = history.with_normal(0.0);
        assert!((knee.capacity - 20_f64.ln()).abs() < 0.01, "{knee:?}");
        assert!((knee.latency_at(40_f64.ln()) - 2_f64.ln()).abs() < 0.01, "{knee:?}");
    }

    #[test]
    fn a_mean_of_more_calls_weighs_more() {
        let mut history = History::new(Noise::new());
        let point = |latency, count| Point { calls: 1.0, latency, count, is_bound: true };
        history.push(point(0.0, 100.0));
        history.push(point(1.0, 400.0));
        // Four to one, but for what no latency is measured better than.
        let mean = history.none_queues().normal;
        assert!((0.74..0.8).contains(&mean), "{mean}");
    }

    #[test]
    fn the_last_fifty_windows_count() {
        let mut history = history([40; 50], 20.0);
        (0..50).for_each(|step| history.push(window(f64::from(5 + step % 10), 20.0)));
        assert_eq!(history.len(), 50);
        let (_, most) = history.fewest_and_most();
        assert!(most < 15_f64.ln(), "{most}");
    }

    #[test]
    fn windows_that_kept_nobody_out_can_be_left_out() {
        let mut history = history(5..=10, 20.0);
        history.push(Point { is_bound: false, ..window(80.0, 20.0) });
        assert_eq!(history.only_bound().len(), 6);
        assert!(history.only_bound().fewest_and_most().1 < 11_f64.ln());
    }

    #[test]
    fn what_varies_beside_the_latency_makes_a_contradiction_need_more() {
        // The calls in flight of a window are not the same all the time: the fit is never exact.
        let mut rough = history(15..=25, 20.0);
        for step in 0..11 {
            let up = if step % 2 == 0 { 0.35 } else { -0.35 };
            let point = window(f64::from(15 + step), 20.0);
            rough.push(Point { latency: point.latency + up, ..point });
        }
        let best = rough.best().expect("enough");
        assert!(rough.excess(&best) > 2.0, "{}", rough.excess(&best));
        assert!(!rough.contradicts(&rough.none_queues(), &best));
        let smooth = history(15..=25, 20.0);
        let best = smooth.best().expect("enough");
        assert!((smooth.excess(&best) - 1.0).abs() < 1e-9);
    }
}
