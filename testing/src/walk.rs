use std::{ops::Range, time::Duration};

use fastrand::Rng;

/// A random walk through steps and time that is the same for the same seed.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_testing::Walk;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mut walk = Walk::new(7);
/// let step = walk.pick(&[(3, "call"), (1, "drop")]);
/// assert_eq!(step, Walk::new(7).pick(&[(3, "call"), (1, "drop")]));
/// assert!(walk.pass(Duration::from_secs(1)).await < Duration::from_secs(1));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Walk {
    rng: Rng,
}

impl Walk {
    /// Starts the walk of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed) }
    }

    /// Walks once with each of `seeds`. Where a walk panics, its seed is said on standard error.
    ///
    /// ```
    /// use outrigger_testing::Walk;
    ///
    /// Walk::each(0..100, |mut walk| assert!(walk.below(3) < 3));
    /// ```
    pub fn each(seeds: Range<u64>, mut walk: impl FnMut(Self)) {
        for seed in seeds {
            let said = SayWhenPanicking(seed);
            walk(Self::new(seed));
            drop(said);
        }
    }

    /// One of `choices`, each as likely as its weight says.
    ///
    /// # Panics
    ///
    /// When there is no choice, or all weights are 0.
    pub fn pick<T: Copy>(&mut self, choices: &[(u32, T)]) -> T {
        let total: u32 = choices.iter().map(|(weight, _)| weight).sum();
        assert!(total > 0, "a walk needs a choice with a weight");
        let mut draw = self.rng.u32(0..total);
        for (weight, choice) in choices {
            if draw < *weight {
                return *choice;
            }
            draw -= weight;
        }
        unreachable!("the draw is below the total");
    }

    /// Whether something with this chance, from 0 to 1, happens.
    pub fn happens(&mut self, chance: f64) -> bool {
        self.rng.f64() < chance
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.rng.usize(0..end)
    }

    /// A duration shorter than `end`, which must be longer than 0.
    pub fn duration(&mut self, end: Duration) -> Duration {
        let end_ns = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.u64(0..end_ns))
    }

    /// One of `times`, each as likely, or one nanosecond more or less: rules that count time go
    /// wrong at their edges.
    ///
    /// # Panics
    ///
    /// When there is no time to choose.
    pub fn near(&mut self, times: &[Duration]) -> Duration {
        let time = times[self.below(times.len())];
        match self.below(3) {
            0 => time.saturating_sub(Duration::from_nanos(1)),
            1 => time,
            _ => time.saturating_add(Duration::from_nanos(1)),
        }
    }

    /// Lets a time shorter than `end` pass on tokio's paused clock, and says how much.
    pub async fn pass(&mut self, end: Duration) -> Duration {
        let time = self.duration(end);
        tokio::time::advance(time).await;
        time
    }
}

struct SayWhenPanicking(u64);

impl Drop for SayWhenPanicking {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the walk of seed {} went wrong", self.0);
        }
    }
}
