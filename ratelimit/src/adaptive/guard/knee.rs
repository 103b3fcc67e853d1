//! How latency goes with the calls in flight: level up to the capacity, and in proportion above.

/// How many windows are looked at (failsafe-go, Cinnamon).
const WINDOWS: usize = 50;
/// Fewer tell nothing.
const FEWEST: usize = 4;
/// So many capacities are tried.
const TRIED: u32 = 16;
/// What fits worse than the best by so many variances is contradicted: three standard deviations.
const CONTRADICTED: f64 = 9.0;
/// No latency is measured better than this, as a share of it.
const PRECISION: f64 = 0.01;

/// Windows, as logarithms of calls in flight and latency: what is proportional is a line there.
#[derive(Debug)]
pub(super) struct History {
    points: [(f64, f64); WINDOWS],
    next: usize,
    len: usize,
}

/// A callee: its latency while no call queues, and how many it can do at once. Logarithms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knee {
    pub(super) normal: f64,
    pub(super) capacity: f64,
    /// The sum of the squares by which the windows are off.
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
    pub(super) const fn new() -> Self {
        Self { points: [(0.0, 0.0); WINDOWS], next: 0, len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn push(&mut self, point: (f64, f64)) {
        self.points[self.next] = point;
        self.next = (self.next + 1) % WINDOWS;
        if self.len < WINDOWS {
            self.len += 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = (f64, f64)> {
        let first = self.next + WINDOWS - self.len;
        (0..self.len).map(move |index| self.points[(first + index) % WINDOWS])
    }

    #[expect(clippy::cast_precision_loss, reason = "at most 50")]
    const fn count(&self) -> f64 {
        self.len as f64
    }

    fn fewest_and_most(&self) -> (f64, f64) {
        let range = (f64::INFINITY, f64::NEG_INFINITY);
        self.iter().fold(range, |(low, high), (calls, _)| (low.min(calls), high.max(calls)))
    }

    /// The callee of this capacity that explains the windows best.
    fn with_capacity(&self, capacity: f64) -> Knee {
        let sum: f64 =
            self.iter().map(|(calls, latency)| latency - (calls - capacity).max(0.0)).sum();
        self.judged(sum / self.count(), capacity)
    }

    fn judged(&self, normal: f64, capacity: f64) -> Knee {
        let knee = Knee { normal, capacity, off: 0.0 };
        let square = |(calls, latency): (f64, f64)| (latency - knee.latency_at(calls)).powi(2);
        Knee { off: self.iter().map(square).sum(), ..knee }
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
        let sum: f64 = self.iter().map(|(calls, latency)| calls - latency).sum();
        let below = self.judged(normal, (normal + sum / self.count()).min(fewest));
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

    /// By how much a window is off, typically.
    pub(super) fn sigma(&self, knee: &Knee) -> f64 {
        (knee.off / (self.count() - 2.0).max(1.0)).sqrt().max(PRECISION)
    }

    /// Whether the windows say that it is not `knee`, where `best` is what they say.
    pub(super) fn contradicts(&self, knee: &Knee, best: &Knee) -> bool {
        knee.off - best.off > CONTRADICTED * self.sigma(best).powi(2)
    }

    /// Whether the windows can say that it is one of them and not the other.
    pub(super) fn tells_apart(&self, a: &Knee, b: &Knee) -> bool {
        let best = if a.off < b.off { a } else { b };
        (a.off - b.off).abs() > CONTRADICTED * self.sigma(best).powi(2)
    }
}
