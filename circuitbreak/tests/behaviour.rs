//! What a user of a breaker sees, through the public API and under paused time.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

mod support;

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use outrigger_circuitbreak::{
    Abandoned, Cause, CircuitBreaker, CircuitBreakerEvent, CircuitBreakerPolicy, Permit, State,
    TripRule, WindowCounts,
};
use outrigger_core::{Enforcement, Live, Observe, Outcome, RejectionKind};
use support::*;

mod window {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_time_window_slides_so_that_old_successes_do_not_count() {
        let breaker = breaker(exact());
        calls(&breaker, 10_000, Outcome::Success);
        pass(11 * SECOND).await;
        assert_eq!(breaker.snapshot().counts, WindowCounts::default());
        assert_eq!(failures_to_open(&breaker, 1_000), Some(200), "the minimum of samples");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_forgotten_one_window_after_its_bucket_and_not_before() {
        let breaker = breaker(exact());
        call(&breaker, Outcome::Failure);
        pass(9_999 * MS).await;
        assert_eq!(breaker.snapshot().counts.failures, 1);
        pass(MS).await;
        assert_eq!(breaker.snapshot().counts.failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_counts_in_its_own_bucket_though_nobody_looked_in_between() {
        let breaker = breaker(exact());
        call(&breaker, Outcome::Success);
        pass(9_950 * MS).await;
        call(&breaker, Outcome::Success);
        pass(SECOND).await;
        assert_eq!(breaker.snapshot().counts.calls, 1, "only the first is too old");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_window_later_only_the_younger_half_remains() {
        let breaker = breaker(exact());
        calls(&breaker, 10, Outcome::Failure);
        pass(5 * SECOND).await;
        calls(&breaker, 100, Outcome::Failure);
        pass(5 * SECOND).await;
        assert_eq!(breaker.snapshot().counts.failures, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_window_slides_so_that_a_long_healthy_past_does_not_count() {
        let window_of_100 = || exact().count_window(100).error_rate(1.0, 100);
        for successes in [0, 1, 99, 100, 10_000] {
            let breaker = breaker(window_of_100());
            calls(&breaker, successes, Outcome::Success);
            assert_eq!(failures_to_open(&breaker, 1_000), Some(100), "after {successes}");
        }
        let half = breaker(exact().count_window(100));
        calls(&half, 10_000, Outcome::Success);
        assert_eq!(failures_to_open(&half, 1_000), Some(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_window_need_not_be_full_before_it_is_judged() {
        let breaker = breaker(exact().count_window(100).error_rate(0.5, 5));
        assert_eq!(failures_to_open(&breaker, 100), Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn timeouts_and_failures_count_apart_and_together() {
        let breaker = breaker(exact());
        calls(&breaker, 3, Outcome::Success);
        calls(&breaker, 2, Outcome::Timeout);
        call(&breaker, Outcome::Failure);
        calls(&breaker, 9, Outcome::Ignored);
        let counts = breaker.snapshot().counts;
        assert_eq!(counts, WindowCounts { calls: 6, failures: 1, timeouts: 2, slow: 0 });
        assert_eq!(counts.error_rate(), Some(0.5));
    }

    #[test]
    fn the_reading_of_one_thread_sees_the_successes_of_all() {
        let breaker = breaker(exact());
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| calls(&breaker, 1_000, Outcome::Success));
            }
        });
        assert_eq!(breaker.snapshot().counts.calls, 8_000);
    }
}

mod trip_rules {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_a_success_between_starts_anew() {
        let breaker = breaker(exact().consecutive_failures(3));
        calls(&breaker, 2, Outcome::Failure);
        call(&breaker, Outcome::Success);
        calls(&breaker, 2, Outcome::Timeout);
        assert_eq!(breaker.state(), State::Closed);
        call(&breaker, Outcome::Failure);
        assert_eq!(breaker.state(), State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_are_not_bound_to_the_window() {
        let breaker = breaker(exact().consecutive_failures(3));
        for _ in 0..3 {
            call(&breaker, Outcome::Failure);
            pass(60 * SECOND).await;
        }
        assert_eq!(breaker.state(), State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_must_last_where_the_rule_says_so() {
        let breaker = breaker(exact().consecutive_failures_lasting(50, 3 * SECOND));
        calls(&breaker, 100, Outcome::Timeout);
        pass(2_999 * MS).await;
        call(&breaker, Outcome::Timeout);
        assert_eq!(breaker.state(), State::Closed);
        pass(MS).await;
        call(&breaker, Outcome::Timeout);
        assert_eq!(breaker.state(), State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_of_failures_opens_it_whatever_the_successes() {
        let breaker = breaker(exact().error_count(3));
        calls(&breaker, 1_000, Outcome::Success);
        assert_eq!(failures_to_open(&breaker, 10), Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_calls_open_it_even_when_they_succeed() {
        let breaker = breaker(exact().slow_calls(SECOND, 0.5, 4));
        calls(&breaker, 2, Outcome::Success);
        for n in [1, 2] {
            let permit = breaker.try_acquire().unwrap();
            pass(SECOND).await;
            permit.record(Outcome::Success);
            assert_eq!(breaker.state() == State::Open, n == 2);
        }
        assert_eq!(breaker.snapshot().last_trip.unwrap().0, TripRule::SlowCalls);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_one_tick_faster_than_the_threshold_is_not_slow() {
        let breaker = breaker(exact().slow_calls(SECOND, 0.5, 1));
        let permit = breaker.try_acquire().unwrap();
        pass(999 * MS).await;
        permit.record(Outcome::Success);
        assert_eq!(breaker.snapshot().counts.slow, 0);
        assert_eq!(breaker.state(), State::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_users_own_rule_sees_the_counts_and_runs_with_nothing_locked() {
        let handle = Arc::new(Mutex::new(None::<CircuitBreaker>));
        let inside = Arc::clone(&handle);
        let policy = exact().no_error_rate().trip_when(move |counts| {
            let handle = inside.lock().unwrap().clone().unwrap();
            // Would wait for ever if the breaker held a lock of its own.
            assert_eq!(handle.snapshot().counts, *counts);
            counts.timeouts == 2 && counts.calls == 3
        });
        let breaker = breaker(policy);
        *handle.lock().unwrap() = Some(breaker.clone());

        call(&breaker, Outcome::Success);
        call(&breaker, Outcome::Timeout);
        assert_eq!(breaker.state(), State::Closed);
        call(&breaker, Outcome::Timeout);
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(breaker.snapshot().last_trip.unwrap().0, TripRule::Custom);
        handle.lock().unwrap().take();
    }

    #[tokio::test(start_paused = true)]
    async fn a_rule_of_the_users_that_panics_harms_only_its_call() {
        let breaker = breaker(exact().trip_when(|_| panic!("the user's rule")));
        let permit = breaker.try_acquire().unwrap();
        let record = std::panic::AssertUnwindSafe(|| permit.record(Outcome::Failure));
        std::panic::catch_unwind(record).unwrap_err();
        call(&breaker, Outcome::Success);
        assert_eq!(breaker.snapshot().counts.calls, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn any_one_of_several_rules_opens_it() {
        let both = || exact().error_rate(0.5, 10).consecutive_failures(3);
        let by_rate = breaker(both());
        (0..10).for_each(|n| {
            call(&by_rate, if n % 2 == 0 { Outcome::Success } else { Outcome::Failure });
        });
        assert_eq!(by_rate.snapshot().last_trip.unwrap().0, TripRule::ErrorRate);
        let by_streak = breaker(both());
        calls(&by_streak, 3, Outcome::Failure);
        assert_eq!(by_streak.snapshot().last_trip.unwrap().0, TripRule::ConsecutiveFailures);
    }
}

mod open {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_says_why_who_and_exactly_how_long() {
        let policy = touchy().build().unwrap();
        let breaker = CircuitBreaker::builder(policy).name("shop/Orders/Place").build();
        call(&breaker, Outcome::Failure);
        pass(800 * MS).await;

        let rejection = breaker.try_acquire().unwrap_err();
        assert_eq!(rejection.kind(), RejectionKind::Unavailable);
        assert_eq!(rejection.reason(), "circuit_open");
        assert_eq!(rejection.key(), Some("shop/Orders/Place"));
        assert_eq!(rejection.retry_after(), Some(4_200 * MS));
        assert!(!rejection.was_sent());
        assert_eq!(breaker.cool_down_left(), Some(4_200 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn it_stays_open_to_the_last_tick_of_the_cool_down() {
        let breaker = breaker(touchy());
        call(&breaker, Outcome::Failure);
        pass(4_999 * MS).await;
        assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(MS));
        pass(MS).await;
        assert!(breaker.try_acquire().is_ok());
        assert_eq!(breaker.state(), State::HalfOpen);
    }

    #[tokio::test(start_paused = true)]
    async fn cool_downs_grow_while_it_keeps_tripping_and_start_anew_after_it_held() {
        let breaker = breaker(touchy().cool_down_growth(2.0, 15 * SECOND).successes_to_close(1));
        for seconds in [5, 10, 15, 15] {
            call(&breaker, Outcome::Failure);
            assert_eq!(breaker.cool_down_left(), Some(seconds * SECOND));
            pass(seconds * SECOND).await;
        }
        call(&breaker, Outcome::Success);
        assert_eq!(breaker.state(), State::Closed);
        call(&breaker, Outcome::Failure);
        assert_eq!(breaker.cool_down_left(), Some(15 * SECOND), "tripped again at once");

        pass(15 * SECOND).await;
        call(&breaker, Outcome::Success);
        pass(15 * SECOND).await;
        call(&breaker, Outcome::Failure);
        assert_eq!(breaker.cool_down_left(), Some(5 * SECOND), "had held for as long");
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_spreads_a_fleet_so_that_it_does_not_probe_in_step() {
        let policy = CircuitBreakerPolicy::builder().consecutive_failures(1).build().unwrap();
        let fleet = |seed| {
            let breaker = CircuitBreaker::builder(policy.clone()).seed(seed).build();
            call(&breaker, Outcome::Failure);
            breaker.cool_down_left().unwrap()
        };
        let waits: Vec<_> = (0..200).map(fleet).collect();
        assert!(waits.iter().all(|wait| (COOL_DOWN..=7_500 * MS).contains(wait)));
        let in_step = |from: u32| {
            let slot = COOL_DOWN + from * 100 * MS..COOL_DOWN + (from + 1) * 100 * MS;
            waits.iter().filter(|wait| slot.contains(wait)).count()
        };
        let peak = (0..25).map(in_step).max().unwrap();
        assert!(peak <= 20, "{peak} of 200 in the same 100 ms");
        assert_eq!(waits[7], fleet(7), "a seed gives the same cool-down again");
    }
}

mod half_open {
    use super::*;

    /// One holds its probe while many others ask.
    async fn admitted_of_10_000(max_probes: u32) -> usize {
        let breaker = breaker(touchy().max_probes(max_probes).probe_interval(Duration::ZERO));
        cooled_down(&breaker).await;
        let ask = |_| {
            let breaker = breaker.clone();
            tokio::spawn(async move { breaker.try_acquire() })
        };
        let tasks: Vec<_> = (0..10_000).map(ask).collect();
        let mut admitted = Vec::new();
        for task in tasks {
            admitted.extend(task.await.unwrap());
        }
        admitted.len()
    }

    #[tokio::test(start_paused = true)]
    async fn exactly_as_many_probes_pass_as_allowed_while_ten_thousand_wait() {
        assert_eq!(admitted_of_10_000(1).await, 1);
        assert_eq!(admitted_of_10_000(7).await, 7);
    }

    #[test]
    fn threads_that_meet_at_the_end_of_the_cool_down_send_one_probe() {
        for _ in 0..200 {
            let log = Log::default();
            let policy = touchy().cool_down(Duration::from_nanos(1)).build().unwrap();
            let breaker = CircuitBreaker::builder(policy).observe(log.clone()).build();
            call(&breaker, Outcome::Failure);
            let (start, admitted) = (Barrier::new(8), AtomicUsize::new(0));
            let permits = Mutex::new(Vec::new());
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        start.wait();
                        if let Ok(permit) = breaker.try_acquire() {
                            admitted.fetch_add(1, Ordering::Relaxed);
                            permits.lock().unwrap().push(permit);
                        }
                    });
                }
            });
            assert_eq!(admitted.into_inner(), 1);
            assert_eq!(log.states(), [State::Open, State::HalfOpen], "one event for each change");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_passes_for_each_interval() {
        let breaker = breaker(touchy().max_probes(10).successes_to_close(3));
        cooled_down(&breaker).await;
        let _first = breaker.try_acquire().unwrap();
        assert_eq!(breaker.try_acquire().unwrap_err().reason(), "circuit_half_open");
        pass(PROBE_INTERVAL.saturating_sub(MS)).await;
        assert!(breaker.try_acquire().is_err());
        pass(MS).await;
        assert!(breaker.try_acquire().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn two_successes_close_it_and_the_window_starts_empty() {
        let breaker = breaker(touchy());
        cooled_down(&breaker).await;
        call(&breaker, Outcome::Success);
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(breaker.try_acquire().is_err(), "the interval is not over");
        pass(PROBE_INTERVAL).await;
        call(&breaker, Outcome::Success);
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.snapshot().counts, WindowCounts::default());
    }

    #[tokio::test(start_paused = true)]
    async fn one_failed_timed_out_or_slow_probe_opens_it_again() {
        for (outcome, takes) in [
            (Outcome::Failure, Duration::ZERO),
            (Outcome::Timeout, Duration::ZERO),
            (Outcome::Success, SECOND),
        ] {
            let breaker = breaker(touchy().slow_calls(SECOND, 1.0, 10));
            cooled_down(&breaker).await;
            let probe = breaker.try_acquire().unwrap();
            pass(takes).await;
            probe.record(outcome);
            assert_eq!(breaker.state(), State::Open);
            assert_eq!(breaker.cool_down_left(), Some(COOL_DOWN));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_says_nothing_neither_closes_nor_opens_it() {
        let breaker = breaker(touchy());
        cooled_down(&breaker).await;
        for _ in 0..5 {
            call(&breaker, Outcome::Ignored);
            assert_eq!(breaker.state(), State::HalfOpen);
            assert!(breaker.try_acquire().is_err(), "its interval counts all the same");
            pass(PROBE_INTERVAL).await;
        }
        assert!(breaker.try_acquire().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_probe_gives_its_place_to_the_very_next_call() {
        let breaker = breaker(touchy());
        cooled_down(&breaker).await;
        for _ in 0..10 {
            drop(breaker.try_acquire().expect("the place came back"));
        }
        assert_eq!(breaker.state(), State::HalfOpen);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_task_panics_gives_its_place_back() {
        let breaker = breaker(touchy());
        cooled_down(&breaker).await;
        let handle = breaker.clone();
        let task = tokio::spawn(async move {
            let _probe = handle.try_acquire().unwrap();
            panic!("in the middle of the call");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert!(breaker.try_acquire().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_beyond_the_limit_loses_its_place_and_its_say() {
        let log = Log::default();
        let policy = touchy().build().unwrap();
        let breaker = CircuitBreaker::builder(policy).observe(log.clone()).build();
        cooled_down(&breaker).await;
        let hangs = breaker.try_acquire().unwrap();
        pass(29_999 * MS).await;
        assert!(breaker.try_acquire().is_err());
        pass(MS).await;
        let next = breaker.try_acquire().expect("the place is free");
        assert!(log.events().contains(&CircuitBreakerEvent::ProbeLost));

        hangs.record(Outcome::Failure);
        assert_eq!(breaker.state(), State::HalfOpen, "its result comes too late");
        assert!(breaker.try_acquire().is_err(), "and frees nobody else's place");
        next.record(Outcome::Success);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_probe_that_is_dropped_later_frees_no_second_place() {
        let breaker = breaker(touchy());
        cooled_down(&breaker).await;
        let hangs = breaker.try_acquire().unwrap();
        pass(30 * SECOND).await;
        let _next = breaker.try_acquire().unwrap();
        drop(hangs);
        pass(PROBE_INTERVAL).await;
        assert!(breaker.try_acquire().is_err());
    }
}

mod stale {
    use super::*;

    /// A call of each generation that is still under way, and the breaker in half-open.
    async fn stragglers() -> (CircuitBreaker, Vec<Permit>) {
        let breaker = breaker(touchy());
        let mut stragglers: Vec<_> = (0..3).map(|_| breaker.try_acquire().unwrap()).collect();
        cooled_down(&breaker).await;
        stragglers.push(breaker.try_acquire().unwrap());
        breaker.reset();
        cooled_down(&breaker).await;
        let probe = breaker.try_acquire().unwrap();
        probe.record(Outcome::Success);
        assert_eq!(breaker.state(), State::HalfOpen);
        (breaker, stragglers)
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_of_an_earlier_state_neither_closes_nor_opens_it() {
        for outcome in [Outcome::Success, Outcome::Failure, Outcome::Timeout] {
            let (breaker, stragglers) = stragglers().await;
            for straggler in stragglers {
                straggler.record(outcome);
                assert_eq!(breaker.state(), State::HalfOpen);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_of_an_earlier_closed_state_is_not_counted_in_a_later_one() {
        let breaker = breaker(touchy().successes_to_close(1));
        let (success, failure) = (breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap());
        cooled_down(&breaker).await;
        call(&breaker, Outcome::Success);
        assert_eq!(breaker.state(), State::Closed);

        success.record(Outcome::Success);
        failure.record(Outcome::Failure);
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.snapshot().counts, WindowCounts::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_from_before_a_reset_by_hand_counts_for_nothing() {
        let breaker = breaker(touchy());
        let permit = breaker.try_acquire().unwrap();
        breaker.reset();
        permit.record(Outcome::Failure);
        assert_eq!(breaker.state(), State::Closed);
    }
}

mod abandoned {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dropped_call_counts_as_the_policy_says() {
        let with = |abandoned| breaker(exact().slow_calls(SECOND, 1.0, 100).abandoned(abandoned));
        let drop_two = async |breaker: &CircuitBreaker| {
            drop(breaker.try_acquire().unwrap());
            let long = breaker.try_acquire().unwrap();
            pass(SECOND).await;
            drop(long);
            breaker.snapshot().counts
        };
        let counts = drop_two(&with(Abandoned::Ignored)).await;
        assert_eq!(counts, WindowCounts::default());
        let counts = drop_two(&with(Abandoned::Failure)).await;
        assert_eq!(counts, WindowCounts { calls: 2, failures: 2, timeouts: 0, slow: 1 });
        let counts = drop_two(&with(Abandoned::Slow)).await;
        assert_eq!(counts, WindowCounts { calls: 1, failures: 0, timeouts: 0, slow: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_calls_cut_from_outside_open_it_if_they_count_as_failures() {
        let open = |abandoned| {
            let breaker = breaker(exact().abandoned(abandoned));
            (0..1_000).for_each(|_| drop(breaker.try_acquire()));
            breaker.state()
        };
        assert_eq!(open(Abandoned::Ignored), State::Closed);
        assert_eq!(open(Abandoned::Failure), State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_probe_opens_it_again_if_dropped_calls_are_failures() {
        let breaker = breaker(touchy().abandoned(Abandoned::Failure));
        cooled_down(&breaker).await;
        drop(breaker.try_acquire().unwrap());
        assert_eq!(breaker.state(), State::Open);
    }
}

mod by_hand {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn forced_open_refuses_for_ever_until_it_is_reset() {
        let log = Log::default();
        let breaker =
            CircuitBreaker::builder(CircuitBreakerPolicy::default()).observe(log.clone()).build();
        breaker.force_open();
        breaker.force_open();
        pass(3_600 * SECOND).await;
        let rejection = breaker.try_acquire().unwrap_err();
        assert_eq!(rejection.reason(), "circuit_forced_open");
        assert_eq!(rejection.retry_after(), None);
        breaker.reset();
        breaker.reset();
        call(&breaker, Outcome::Success);

        assert_eq!(log.states(), [State::ForcedOpen, State::Closed]);
        assert!(log.changes().iter().all(|change| change.cause == Cause::ByHand));
    }

    #[tokio::test(start_paused = true)]
    async fn reset_closes_an_open_circuit_and_forgets_its_trips() {
        let breaker = breaker(touchy().cool_down_growth(2.0, 60 * SECOND));
        call(&breaker, Outcome::Failure);
        breaker.reset();
        assert!(breaker.snapshot().last_trip.is_none());
        call(&breaker, Outcome::Failure);
        assert_eq!(breaker.cool_down_left(), Some(COOL_DOWN));
    }
}

mod events {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_says_what_led_to_it() {
        let log = Log::default();
        let policy = exact().error_rate(0.5, 4).build().unwrap();
        let breaker = CircuitBreaker::builder(policy).name("orders").observe(log.clone()).build();
        calls(&breaker, 2, Outcome::Success);
        calls(&breaker, 2, Outcome::Timeout);
        drop(breaker.try_acquire());
        pass(COOL_DOWN).await;
        call(&breaker, Outcome::Success);
        pass(PROBE_INTERVAL).await;
        call(&breaker, Outcome::Success);

        let changes = log.changes();
        assert_eq!(log.states(), [State::Open, State::HalfOpen, State::Closed]);
        assert_eq!(changes[0].cause, Cause::Tripped(TripRule::ErrorRate));
        assert_eq!(changes[0].counts.timeouts, 2);
        assert_eq!(changes[0].cool_down, Some(COOL_DOWN));
        assert_eq!(changes[1].cause, Cause::CooledDown);
        assert_eq!(changes[2].cause, Cause::Recovered);
        assert_eq!(changes.iter().map(|change| change.generation).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(log.keys(), vec!["orders"; 4]);
        let refused = CircuitBreakerEvent::Refused {
            state: State::Open,
            retry_after: Some(COOL_DOWN),
            shadow: false,
        };
        assert_eq!(log.events()[1], refused);
    }

    /// Resets each breaker that opens, from within the event.
    #[derive(Clone, Default)]
    struct Resets {
        breaker: Arc<Mutex<Option<CircuitBreaker<Self>>>>,
        log: Log,
    }

    impl Observe<CircuitBreakerEvent> for Resets {
        fn observe(&self, key: &str, event: &CircuitBreakerEvent) {
            self.log.observe(key, event);
            let breaker = self.breaker.lock().unwrap().clone().unwrap();
            if breaker.state() == State::Open {
                breaker.reset();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_observer_may_use_the_breaker_that_tells_it() {
        let resets = Resets::default();
        let policy = touchy().build().unwrap();
        let breaker = CircuitBreaker::builder(policy).observe(resets.clone()).build();
        *resets.breaker.lock().unwrap() = Some(breaker.clone());

        call(&breaker, Outcome::Failure);
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(resets.log.states(), [State::Open, State::Closed]);
        resets.breaker.lock().unwrap().take();
    }

    #[test]
    fn threads_that_fail_together_open_it_once() {
        for _ in 0..100 {
            let log = Log::default();
            let policy = exact().error_rate(0.5, 8).build().unwrap();
            let breaker = CircuitBreaker::builder(policy).observe(log.clone()).build();
            let start = Barrier::new(8);
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let permits: Vec<_> = (0..4).map(|_| breaker.try_acquire()).collect();
                        start.wait();
                        permits.into_iter().flatten().for_each(|p| p.record(Outcome::Failure));
                    });
                }
            });
            assert_eq!(log.states(), [State::Open]);
        }
    }
}

mod policy_changes {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_replaced_policy_acts_at_once_and_keeps_state_and_counts() {
        let breaker = breaker(exact());
        calls(&breaker, 90, Outcome::Success);
        calls(&breaker, 9, Outcome::Failure);
        breaker.policy().replace(exact().error_rate(0.1, 100).build().unwrap());
        call(&breaker, Outcome::Failure);
        assert_eq!(breaker.state(), State::Open, "10 of 100");

        breaker.policy().replace(exact().cool_down(60 * SECOND).build().unwrap());
        assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(COOL_DOWN));
    }

    #[tokio::test(start_paused = true)]
    async fn counts_start_anew_only_when_the_windows_shape_changes() {
        let breaker = breaker(exact());
        call(&breaker, Outcome::Failure);
        breaker.policy().replace(exact().time_window(20 * SECOND).build().unwrap());
        call(&breaker, Outcome::Success);
        let counts = breaker.snapshot().counts;
        assert_eq!(counts, WindowCounts { calls: 1, ..WindowCounts::default() });
        breaker.policy().replace(exact().count_window(5).build().unwrap());
        calls(&breaker, 9, Outcome::Success);
        assert_eq!(breaker.snapshot().counts.calls, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn one_live_policy_steers_many_breakers() {
        let live = Live::new(exact().build().unwrap());
        let breakers = [CircuitBreaker::new(live.clone()), CircuitBreaker::new(live.clone())];
        live.replace(touchy().build().unwrap());
        for breaker in breakers {
            call(&breaker, Outcome::Failure);
            assert_eq!(breaker.state(), State::Open);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn disabled_passes_all_records_nothing_and_keeps_the_state() {
        let breaker = breaker(touchy());
        call(&breaker, Outcome::Failure);
        breaker.policy().update(|policy| policy.clone().with_enforcement(Enforcement::Disabled));
        calls(&breaker, 10, Outcome::Failure);
        assert_eq!(breaker.state(), State::Open);
        breaker.policy().update(|policy| policy.clone().with_enforcement(Enforcement::Enforced));
        assert!(breaker.try_acquire().is_err(), "still inside the cool-down");
    }

    #[tokio::test(start_paused = true)]
    async fn shadow_changes_no_outcome_and_tells_what_it_would_have_done() {
        let log = Log::default();
        let policy = touchy().enforcement(Enforcement::Shadow).build().unwrap();
        let breaker = CircuitBreaker::builder(policy).observe(log.clone()).build();
        calls(&breaker, 3, Outcome::Failure);
        pass(COOL_DOWN).await;
        call(&breaker, Outcome::Success);
        call(&breaker, Outcome::Failure);
        pass(PROBE_INTERVAL).await;
        call(&breaker, Outcome::Success);

        assert_eq!(log.states(), [State::Open, State::HalfOpen, State::Closed]);
        let would_refuse = |event: &&CircuitBreakerEvent| {
            matches!(event, CircuitBreakerEvent::Refused { shadow: true, .. })
        };
        assert_eq!(log.events().iter().filter(would_refuse).count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn forced_open_in_shadow_refuses_nobody() {
        let breaker = breaker(exact().enforcement(Enforcement::Shadow));
        breaker.force_open();
        assert!(breaker.try_acquire().is_ok());
    }
}

mod time {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn absurd_durations_saturate() {
        let for_ever = || touchy().cool_down(Duration::MAX).probe_limit(Duration::MAX);
        let breaker = breaker(for_ever().time_window(Duration::MAX).cool_down_jitter(1.0));
        call(&breaker, Outcome::Failure);
        pass(Duration::from_secs(86_400 * 365)).await;
        assert!(breaker.try_acquire().is_err());
        assert_eq!(breaker.state(), State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_of_half_a_minute_is_no_flood() {
        let breaker = breaker(touchy());
        cooled_down(&breaker).await;
        pass(30 * SECOND).await;
        let probes: Vec<_> = (0..100).filter_map(|_| breaker.try_acquire().ok()).collect();
        assert_eq!(probes.len(), 1);
    }
}

#[test]
fn handles_and_permits_can_go_to_other_threads() {
    fn everywhere<T: Send + Sync + 'static>() {}
    everywhere::<CircuitBreaker>();
    everywhere::<Permit>();
    everywhere::<outrigger_circuitbreak::CircuitBreakerPanel<String>>();
}
