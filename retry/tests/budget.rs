//! The budget: exact under any interleaving, held while waiting, given back when not sent.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use outrigger_retry::{RetryBudget, RetryBudgetPolicy, RetryShare};
use proptest::prelude::*;
use tokio::{runtime::Builder, time::advance};

const SECOND: Duration = Duration::from_secs(1);

fn budget(ratio: f64, reserve: u64) -> RetryBudget {
    let policy = RetryBudgetPolicy::builder().ratio(ratio).reserve(reserve).build();
    RetryBudget::new(policy.expect("a valid policy"))
}

fn calls(budget: &RetryBudget, n: u64) {
    (0..n).for_each(|_| budget.record_call());
}

fn paused<R>(run: impl Future<Output = R>) -> R {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a clock").block_on(run)
}

fn send_all(budget: &RetryBudget) -> u64 {
    let mut sent = 0;
    while let Some(share) = budget.try_acquire() {
        share.send();
        sent += 1;
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn a_configured_share_behaves_as_itself_and_not_as_a_rounded_one() {
    for percent in (5..=100).step_by(5) {
        let budget = budget(f64::from(percent) / 100.0, 0);
        for calls_made in 1..=200 {
            budget.record_call();
            send_all(&budget);
            let counts = budget.snapshot();
            let share = u64::try_from(percent).unwrap() * calls_made / 100;
            assert_eq!((counts.calls, counts.attempts), (calls_made, share), "at {percent} %");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_failures_at_once_get_their_share_even_while_they_wait() {
    let budget = budget(0.2, 0);
    calls(&budget, 1_000);
    let waiting: Vec<RetryShare> = (0..1_000).filter_map(|_| budget.try_acquire()).collect();
    assert_eq!(waiting.len(), 200);

    // However long they wait, nobody else gets their share.
    advance(9 * SECOND).await;
    assert!(budget.try_acquire().is_none());
    waiting.into_iter().for_each(RetryShare::send);
    assert!(budget.try_acquire().is_none());
    assert_eq!(budget.snapshot().attempts, 200);
}

#[tokio::test(start_paused = true)]
async fn a_share_that_waits_longer_than_the_window_is_still_held() {
    let budget = budget(0.1, 1);
    let waiting = budget.try_acquire().unwrap();
    advance(60 * SECOND).await;
    assert!(budget.try_acquire().is_none());
    drop(waiting);
    assert!(budget.try_acquire().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_never_sent_gives_its_share_back() {
    let budget = budget(0.1, 0);
    calls(&budget, 10);
    for _ in 0..100 {
        drop(budget.try_acquire().expect("given back each time"));
    }
    budget.try_acquire().unwrap().send();
    assert!(budget.try_acquire().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_reserve_is_one_in_ten_seconds_beside_the_share() {
    let budget = RetryBudget::default();
    assert_eq!(send_all(&budget), 1);
    advance(9 * SECOND).await;
    assert_eq!(send_all(&budget), 0);
    advance(SECOND).await;
    assert_eq!(send_all(&budget), 1);
    calls(&budget, 100);
    assert_eq!(send_all(&budget), 10, "ten for a hundred calls, and one");
}

#[tokio::test(start_paused = true)]
async fn calls_older_than_the_window_pay_for_nothing() {
    let budget = budget(0.1, 0);
    calls(&budget, 100);
    assert_eq!(budget.snapshot().calls, 100);
    advance(11 * SECOND).await;
    assert_eq!(budget.snapshot().calls, 0);
    assert!(budget.try_acquire().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_replaced_policy_keeps_the_counts() {
    let budget = budget(0.1, 0);
    calls(&budget, 100);
    assert_eq!(send_all(&budget), 10);
    let more = RetryBudgetPolicy::builder().ratio(0.2).window(20 * SECOND).reserve(0);
    budget.policy().replace(more.build().unwrap());
    assert_eq!(send_all(&budget), 10, "twenty in all");
    budget.policy().replace(RetryBudgetPolicy::unlimited());
    assert!((0..1_000).all(|_| budget.try_acquire().is_some()));
}

#[test]
fn eight_threads_never_get_more_than_the_share() {
    let budget = budget(0.1, 1);
    let sent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..20_000_u64 {
                    budget.record_call();
                    let Some(share) = budget.try_acquire() else { continue };
                    if n % 3 == 0 {
                        continue;
                    }
                    share.send();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let sent = sent.into_inner();
    assert!(sent <= 16_001, "{sent} of 160000 calls and a reserve of one");
    assert!(sent >= 15_000, "{sent} of 160000 calls: the share is there to be used");
}

#[test]
fn gigantic_steps_of_time_neither_overflow_nor_mint() {
    paused(async {
        let budget = budget(0.5, 0);
        calls(&budget, 2);
        assert_eq!(budget.snapshot().calls, 2);
        advance(Duration::from_secs(u64::from(u32::MAX))).await;
        assert_eq!(send_all(&budget), 0);
        calls(&budget, 2);
        assert_eq!(send_all(&budget), 1);
    });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Calls(u64),
    Take,
    Send(usize),
    Drop(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..60_u64).prop_map(Step::Calls),
        6 => Just(Step::Take),
        4 => (0..8_usize).prop_map(Step::Send),
        2 => (0..8_usize).prop_map(Step::Drop),
        2 => (0..6_000_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(4),
        ..ProptestConfig::default()
    })]

    /// For any order of calls, waits, sends and cancels: never more than the share of all calls
    /// and the reserve of each window; and within one window never more than its own.
    #[test]
    fn attempts_never_exceed_the_share_of_calls_and_the_reserve(
        steps in steps(), percent in 0..=100_u32, reserve in 0..3_u64,
    ) {
        let (sent, made, passed) = paused(async {
            let budget = budget(f64::from(percent) / 100.0, reserve);
            let mut held = Vec::new();
            let (mut sent, mut made, mut passed) = (0_u64, 0_u64, 0_u64);
            for step in steps {
                match step {
                    Step::Calls(n) => {
                        calls(&budget, n);
                        made += n;
                    }
                    Step::Take => held.extend(budget.try_acquire()),
                    Step::Send(n) if n < held.len() => {
                        held.swap_remove(n).send();
                        sent += 1;
                    }
                    Step::Drop(n) if n < held.len() => drop(held.swap_remove(n)),
                    Step::Send(_) | Step::Drop(_) => {}
                    Step::Pass(ms) => {
                        advance(Duration::from_millis(ms)).await;
                        passed += ms;
                    }
                }
                let counts = budget.snapshot();
                assert_eq!(counts.waiting, held.len() as u64);
                assert!(counts.attempts <= sent);
                assert!(counts.calls <= made);
            }
            (sent, made, passed)
        });
        let windows = 1 + passed / 9_500;
        prop_assert!(sent * 100 <= u64::from(percent) * made + 100 * reserve * windows);
    }
}

// gRPC's throttle (gRFC A6), in exact thousandths.

#[test]
fn grpcs_throttle_is_exact_to_a_thousandth_of_a_token() {
    let budget = RetryBudget::new(RetryBudgetPolicy::throttling(10, 0.1).unwrap());
    let tokens = || budget.snapshot().tokens.unwrap();
    let is = |expected: f64| assert!((tokens() - expected).abs() < 1e-9, "{}", tokens());
    is(10.0);
    budget.record_success();
    is(10.0);
    for _ in 0..5 {
        assert!(budget.try_acquire().is_some());
        budget.record_failure();
    }
    is(5.0);
    assert!(budget.try_acquire().is_none(), "more than half, and this is half");
    budget.record_success();
    is(5.1);
    assert!(budget.try_acquire().is_some());

    // From empty it takes 51 successes.
    (0..100).for_each(|_| budget.record_failure());
    is(0.0);
    for _ in 0..50 {
        budget.record_success();
        assert!(budget.try_acquire().is_none());
    }
    budget.record_success();
    assert!(budget.try_acquire().is_some());
}

#[test]
fn a_hundred_thousand_tenths_of_a_token_do_not_drift() {
    let budget = RetryBudget::new(RetryBudgetPolicy::throttling(1_000, 0.1).unwrap());
    for _ in 0..10_000 {
        budget.record_failure();
        (0..10).for_each(|_| budget.record_success());
    }
    assert_eq!(budget.snapshot().tokens, Some(1_000.0));
}

#[test]
fn a_budget_becomes_a_throttle_while_calls_run() {
    let budget = budget(0.1, 0);
    budget.record_success();
    assert!(budget.try_acquire().is_none());
    budget.policy().replace(RetryBudgetPolicy::throttling(2, 1.0).unwrap());
    assert!(budget.try_acquire().is_some());
    budget.record_failure();
    assert!(budget.try_acquire().is_none());
    budget.record_success();
    assert!(budget.try_acquire().is_some());
}
