use super::*;

/// A callee that does so many calls at once, each in a second, and whose latencies vary by `spread`
/// (the square root of it, as a share of the mean).
struct Callee {
    capacity: f64,
    takes: f64,
    spread: f64,
    rng: fastrand::Rng,
}

impl Callee {
    fn new(capacity: f64, spread: f64) -> Self {
        Self { capacity, takes: 1.0, spread, rng: fastrand::Rng::with_seed(7) }
    }

    /// A window of `count` calls, so many in flight, where the limit is reached.
    fn window(&mut self, calls: f64, count: f64) -> Seen {
        let normal: f64 = (0..12).map(|_| self.rng.f64()).sum::<f64>() - 6.0;
        let error = 1.0 + normal * (self.spread / count).sqrt();
        let latency = self.takes * (calls / self.capacity).max(1.0) * error;
        let square = latency * latency * (1.0 + self.spread);
        Seen { calls, latency, square, count, is_reached: true, is_bound: true }
    }
}

fn ratio(guard: &Guard, of: f64) -> f64 {
    guard.normal().expect("windows were seen") / of
}

#[test]
fn the_first_window_tells_nothing_and_the_second_is_all_that_is_known() {
    let mut guard = Guard::new();
    let mut callee = Callee::new(20.0, 0.0);
    guard.note(&callee.window(10.0, 100.0));
    assert!(guard.normal().is_none() && guard.certain(None).is_none());
    guard.note(&callee.window(10.0, 100.0));
    assert!((ratio(&guard, 1.0) - 1.0).abs() < 1e-9);
    assert!(guard.is_learning());
}

#[test]
fn below_the_capacity_no_number_of_calls_is_a_queue_however_much_they_vary() {
    for spread in [0.08, 1.0, 1.7] {
        let (mut guard, mut callee) = (Guard::new(), Callee::new(100.0, spread));
        for window in 0..200 {
            guard.note(&callee.window(f64::from(10 + window % 20), 100.0));
        }
        assert!((0.9..1.1).contains(&ratio(&guard, 1.0)), "{spread}: {:?}", guard.normal());
        let certain = guard.certain(None).expect("windows were seen");
        let above = certain / guard.normal().expect("seen");
        assert!(above < 1.05, "{spread}: {above}");
    }
}

#[test]
fn a_queue_that_comes_is_seen_and_never_learnt() {
    for spread in [0.08, 1.0] {
        let (mut guard, mut callee) = (Guard::new(), Callee::new(20.0, spread));
        (0..40).for_each(|window| guard.note(&callee.window(f64::from(10 + window % 10), 100.0)));
        (0..2_000).for_each(|_| guard.note(&callee.window(30.0, 100.0)));
        assert!((0.9..1.1).contains(&ratio(&guard, 1.0)), "{spread}: {:?}", guard.normal());
        let certain = guard.certain(None).expect("windows were seen");
        assert!(certain > 1.25, "{spread}: {certain}");
    }
}

#[test]
fn a_callee_that_becomes_slower_is_learnt_as_soon_as_fewer_calls_are_as_slow() {
    for spread in [0.08, 1.0] {
        let (mut guard, mut callee) = (Guard::new(), Callee::new(20.0, spread));
        (0..40).for_each(|window| guard.note(&callee.window(f64::from(10 + window % 10), 100.0)));
        callee.takes = 2.0;
        // The limit goes down by the third that is allowed while nothing is confirmed.
        (0..3).for_each(|_| guard.note(&callee.window(19.0, 100.0)));
        let least = guard.confirmed();
        assert!((12.0..13.5).contains(&least), "{least}");
        (0..12).for_each(|_| guard.note(&callee.window(13.0, 100.0)));
        assert!((0.8..1.1).contains(&ratio(&guard, 2.0)), "{spread}: {:?}", guard.normal());
    }
}

#[test]
fn what_is_confirmed_to_be_a_queue_may_be_cut_further() {
    let (mut guard, mut callee) = (Guard::new(), Callee::new(20.0, 0.3));
    (0..20).for_each(|_| guard.note(&callee.window(40.0, 100.0)));
    assert!(guard.confirmed() > 25.0);
    for calls in [36.0, 33.0, 30.0, 28.0] {
        guard.note(&callee.window(calls, 100.0));
    }
    assert!(guard.confirmed() < 1.0, "fewer calls were faster");
}

#[test]
fn where_even_the_fewest_calls_had_a_queue_the_next_guess_is_lower() {
    let (mut guard, mut callee) = (Guard::new(), Callee::new(20.0, 0.08));
    // Twice the capacity from the first window on: the queue is all that is known.
    (0..4).for_each(|_| guard.note(&callee.window(40.0, 100.0)));
    assert!((1.9..2.1).contains(&ratio(&guard, 1.0)), "{:?}", guard.normal());
    (0..8).for_each(|window| guard.note(&callee.window(f64::from(41 + 2 * window), 100.0)));
    assert!((1.6..1.85).contains(&ratio(&guard, 1.0)), "{:?}", guard.normal());
}

#[test]
fn calls_that_take_longer_by_chance_are_more_in_flight_and_no_queue() {
    let (mut guard, mut callee) = (Guard::new(), Callee::new(1e6, 1.0));
    for _ in 0..400 {
        let seen = callee.window(10.0, 50.0);
        // Nobody is kept out: by Little's law as many are in flight as come and as they take long.
        let come = callee.window(10.0, 50.0).latency;
        let calls = 10.0 * come * seen.latency;
        guard.note(&Seen { calls, is_reached: false, is_bound: false, ..seen });
    }
    assert!((0.9..1.1).contains(&ratio(&guard, 1.0)), "{:?}", guard.normal());
}
