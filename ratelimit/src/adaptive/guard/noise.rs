//! How much the latencies of single calls vary, and how far a mean of them is to be trusted.

/// What is remembered of a window after the next one.
const MEMORY: f64 = 0.95;
/// Until windows say otherwise, calls vary as exponentially distributed ones do, as if so many had
/// been seen: a first window without a slow call says nothing of slow calls.
const PRIOR: f64 = 100.0;
/// No latency is measured better than this, as a share of it.
const PRECISION: f64 = 0.02;
/// A window needs at most so many times the samples of the policy.
const MOST: f64 = 8.0;

/// The variance of a call's latency as a share of its square: 0.08 where latencies lie evenly
/// between half of the mean and one and a half, 1 where they are exponential, 1.7 for lognormal
/// ones with sigma 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise {
    sum: f64,
    count: f64,
}

impl Noise {
    pub(super) const fn new() -> Self {
        Self { sum: PRIOR, count: PRIOR }
    }

    /// Learns of `count` calls with this mean and mean of squares, where `usual` was expected.
    ///
    /// The variance is taken as a share of the larger mean: where slow calls are rare, a window
    /// without one is short, and looks as if nothing varied.
    pub(super) fn note(&mut self, mean: f64, mean_square: f64, count: f64, usual: f64) {
        let variance = (mean_square - mean * mean).max(0.0) / usual.max(mean).powi(2);
        self.sum = self.sum * MEMORY + variance * count;
        self.count = self.count * MEMORY + count;
    }

    fn of_a_call(&self) -> f64 {
        self.sum / self.count
    }

    /// The square of the standard error of a mean of so many calls, as a share of its square.
    pub(super) fn of_a_mean(&self, count: f64) -> f64 {
        self.of_a_call() / count + PRECISION * PRECISION
    }

    /// How many calls a window needs where `least` do while latencies vary as exponential ones.
    pub(super) fn samples(&self, least: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let samples = (f64::from(least) * self.of_a_call().clamp(1.0, MOST)) as u32;
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(windows: u32, mean: f64, mean_square: f64) -> Noise {
        let mut noise = Noise::new();
        (0..windows).for_each(|_| noise.note(mean, mean_square, 50.0, mean));
        noise
    }

    #[test]
    fn it_finds_how_much_calls_vary() {
        // Evenly from 0.5 to 1.5; exponential; nine of ten take 0.2, one 8.2.
        for (mean_square, expected) in [(1.0 + 1.0 / 12.0, 1.0 / 12.0), (2.0, 1.0), (6.76, 5.76)] {
            let found = after(100, 1.0, mean_square).of_a_call();
            assert!((found / expected - 1.0).abs() < 0.1, "{found} for {expected}");
        }
    }

    #[test]
    fn a_window_without_a_slow_call_does_not_say_that_calls_do_not_vary() {
        let mut noise = Noise::new();
        noise.note(0.02, 0.0004, 50.0, 0.02);
        assert!(noise.of_a_call() > 0.5, "{noise:?}");
        let mut noise = after(100, 0.1, 0.0676);
        let before = noise.of_a_call();
        noise.note(0.02, 0.0004, 50.0, 0.1);
        assert!(noise.of_a_call() > 0.9 * before, "{noise:?}");
    }

    #[test]
    fn the_more_calls_vary_the_more_a_window_needs() {
        let needed = [1.1, 2.0, 6.76, 1e9].map(|square| after(200, 1.0, square).samples(50));
        assert_eq!(needed[..2], [50, 50]);
        assert!((280..=290).contains(&needed[2]), "{needed:?}");
        assert_eq!(needed[3], 400);
    }

    #[test]
    fn four_times_the_calls_halve_the_error() {
        let noise = after(100, 1.0, 2.0);
        let error = |count| (noise.of_a_mean(count) - PRECISION * PRECISION).sqrt();
        assert!((error(100.0) / error(400.0) - 2.0).abs() < 1e-6);
    }
}
