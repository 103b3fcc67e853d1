use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{super::limiter::Vegas, *};

const WINDOW: Duration = Duration::from_millis(400);

/// An engine, and the policy and time that it is given.
struct Played {
    engine: Engine,
    policy: AdaptiveLimitPolicy,
    at: Duration,
}

impl Played {
    fn new(limiter: impl Limiter + 'static, initial_limit: u32) -> Self {
        let policy = AdaptiveLimitPolicy::builder().initial_limit(initial_limit).build();
        let policy = policy.expect("valid");
        Self { engine: Engine::new(Box::new(limiter), &policy), policy, at: Duration::ZERO }
    }

    fn window(&mut self, counts: &Counts) -> Decision {
        self.at += WINDOW;
        self.engine.end_window(counts, self.at, &self.policy)
    }

    /// A window at the limit, of a callee that does 20 calls at once in 100 ms each.
    fn at_limit(&mut self, dropped: u32) -> Decision {
        let places = self.engine.places(&self.policy);
        self.window(&counts(places, 20, dropped))
    }
}

/// What `in_flight` calls at once come to in a window, before so many workers of 100 ms.
fn counts(in_flight: u32, workers: u32, dropped: u32) -> Counts {
    let count = 4 * in_flight.min(workers) - dropped;
    let ns = 100_000_000 * u64::from(in_flight.max(workers)) / u64::from(workers);
    Counts {
        count,
        dropped,
        latency_ns: u64::from(count) * ns,
        squares: u64::from(count) * super::super::window::square(ns),
        in_flight: u64::from(count) * u64::from(in_flight),
        max_in_flight: in_flight,
        refused: 50,
    }
}

#[test]
fn vegas_finds_the_capacity_and_stays() {
    let mut played = Played::new(Vegas::new(), 10);
    for _ in 0..60 {
        played.at_limit(0);
    }
    let settled: Vec<u32> = (0..200).map(|_| played.at_limit(0).places).collect();
    assert!(settled.iter().all(|places| (20..=27).contains(places)), "{settled:?}");
}

#[test]
fn the_limit_stays_where_it_is_while_the_normal_latency_is_learnt() {
    let mut played = Played::new(Vegas::new(), 10);
    let first: Vec<u32> = (0..5).map(|_| played.at_limit(0).places).collect();
    assert_eq!(first[..4], [10; 4]);
    assert!(first[4] > 10);
}

#[test]
fn drops_that_do_not_depend_on_the_limit_become_usual() {
    let mut played = Played::new(Vegas::new(), 20);
    for _ in 0..20 {
        played.at_limit(0);
    }
    // A tenth of 80 calls: more than chance, at first.
    let tenth = |played: &Played| played.engine.places(&played.policy).min(20) * 4 / 10;
    assert_eq!(played.at_limit(8).reason, LimitChange::Drops);
    for _ in 0..60 {
        let dropped = tenth(&played);
        let decision = played.at_limit(dropped);
        assert!(decision.places >= 12, "{decision:?}");
    }
    let dropped = tenth(&played);
    assert_ne!(played.at_limit(dropped).reason, LimitChange::Drops);
}

#[test]
fn half_of_the_calls_dropped_are_overload_however_long_it_lasts() {
    let mut played = Played::new(Vegas::new(), 20);
    (0..100).for_each(|_| {
        let dropped = 2 * played.engine.places(&played.policy).min(20);
        let decision = played.at_limit(dropped);
        assert_eq!(decision.reason, LimitChange::Drops);
    });
    assert!(played.engine.places(&played.policy) <= 10);
}

#[test]
fn a_callee_that_refuses_what_is_too_much_keeps_what_it_does() {
    let mut played = Played::new(Vegas::new(), 20);
    for _ in 0..20 {
        played.at_limit(0);
    }
    let mut window = counts(20, 20, 0);
    // It does 20 at once, and refuses twice as many at once.
    (window.dropped, window.max_in_flight) = (160, 22);
    let decision = played.window(&window);
    assert_eq!(decision.reason, LimitChange::Drops);
    assert!((17..=21).contains(&decision.places), "{decision:?}");
}

#[test]
fn a_callee_that_hangs_is_at_the_minimum_after_three_windows() {
    let mut played = Played::new(Vegas::new(), 20);
    for _ in 0..20 {
        played.at_limit(0);
    }
    let all = |dropped| Counts { dropped, max_in_flight: dropped, ..Counts::default() };
    let places = [20, 8, 2].map(|dropped| played.window(&all(dropped)).places);
    assert_eq!(places[2], 1, "{places:?}");
}

#[test]
fn what_is_refused_was_needed_though_a_reserve_kept_the_places_free() {
    let mut played = Played::new(Vegas::new(), 20);
    for _ in 0..20 {
        // A reserve of 0.4: calls are refused with 12 of 20 in flight.
        let reserved = played.engine.places(&played.policy) * 6 / 10;
        played.window(&counts(reserved, 40, 0));
    }
    assert!(played.engine.places(&played.policy) > 25, "{}", played.engine.places(&played.policy));
}

/// Says what it was told, and keeps the limit.
#[derive(Debug)]
struct Told(Arc<AtomicUsize>);

impl Limiter for Told {
    fn next_limit(&mut self, sample: &LimitSample) -> f64 {
        let latency = sample.latency.expect("a call succeeded");
        assert!((99..=101).contains(&latency.as_millis()), "{latency:?}");
        self.0.fetch_add(1, Ordering::Relaxed);
        sample.limit
    }
}

#[test]
fn a_limiter_is_told_the_latency_from_the_first_window_on() {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut played = Played::new(Told(Arc::clone(&asked)), 10);
    for _ in 0..3 {
        played.at_limit(0);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[test]
fn after_fifteen_windows_without_growth_three_have_a_few_calls_more() {
    let mut played = Played::new(Told(Arc::default()), 10);
    let places: Vec<u32> = (0..20).map(|_| played.at_limit(0).places).collect();
    assert_eq!(places[..14], [10; 14]);
    assert_eq!(places[14..], [11, 11, 11, 10, 10, 10]);
}
