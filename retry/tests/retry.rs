//! What a user sees of retries and backup requests, under paused time.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use outrigger_core::{Enforcement, Outcome, Rejection};
use outrigger_retry::{
    AttemptKind, Backoff, Chain, Jitter, QuantileDelay, RetryBudget, RetryBudgetPolicy, RetryEvent,
    RetryLayer, RetryPolicy, RetryPolicyBuilder, StopReason,
};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Layer, Service, ServiceExt};

const MS: Duration = Duration::from_millis(1);
const NEVER: Duration = Duration::from_secs(1_000_000);

/// What the callee does with an attempt: how long it takes, and what it says.
#[derive(Clone, Debug)]
struct Does(Duration, Result<u32, &'static str>);

fn ok(ms: u32) -> Does {
    Does(ms * MS, Ok(ms))
}

fn fails(ms: u32) -> Does {
    Does(ms * MS, Err("failed"))
}

fn hangs() -> Does {
    Does(NEVER, Ok(0))
}

/// A callee that follows a list, and notes when each attempt came.
#[derive(Clone)]
struct Callee {
    script: Arc<Mutex<VecDeque<Does>>>,
    came: Arc<Mutex<Vec<Instant>>>,
    alive: Arc<AtomicUsize>,
    refuses: Option<Rejection>,
}

impl Callee {
    fn doing(script: impl IntoIterator<Item = Does>) -> Self {
        Self {
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            came: Arc::default(),
            alive: Arc::default(),
            refuses: None,
        }
    }

    /// When the attempts came, in ms after the first.
    fn times(&self) -> Vec<u64> {
        let came = self.came.lock().expect("not poisoned");
        let ms = |at: &Instant| u64::try_from((*at - came[0]).as_millis()).expect("short");
        came.iter().map(ms).collect()
    }

    fn attempts(&self) -> usize {
        self.came.lock().expect("not poisoned").len()
    }

    fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The one request.
#[derive(Clone)]
struct Get;

impl Service<Get> for Callee {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Get) -> Self::Future {
        self.came.lock().expect("not poisoned").push(Instant::now());
        let does = self.script.lock().expect("not poisoned").pop_front();
        let Does(takes, says) = does.expect("an attempt more than the script has");
        self.alive.fetch_add(1, Ordering::SeqCst);
        let alive = Alive(Arc::clone(&self.alive));
        let refusal = self.refuses.clone().filter(|_| says.is_err());
        Box::pin(async move {
            let _alive = alive;
            if !takes.is_zero() {
                sleep(takes).await;
            }
            match refusal {
                Some(refusal) => Err(refusal.into()),
                None => says.map_err(BoxError::from),
            }
        })
    }
}

type Events = Arc<Mutex<Vec<RetryEvent>>>;

fn listen(events: &Events) -> impl Fn(&str, &RetryEvent) + use<> {
    let events = Arc::clone(events);
    move |_: &str, event: &RetryEvent| events.lock().expect("not poisoned").push(*event)
}

/// What a call gave, when, in ms, and what happened.
struct Seen {
    answer: Result<u32, BoxError>,
    after: u64,
    events: Vec<RetryEvent>,
}

impl Seen {
    fn stopped(&self) -> Option<StopReason> {
        self.events.iter().find_map(|event| match event {
            RetryEvent::Stopped { reason } => Some(*reason),
            _ => None,
        })
    }

    fn has(&self, event: RetryEvent) -> bool {
        self.events.contains(&event)
    }
}

async fn call(policy: RetryPolicy, callee: &Callee) -> Seen {
    call_with(RetryLayer::new(policy).budget(RetryBudget::unlimited()), callee).await
}

async fn call_with(layer: RetryLayer, callee: &Callee) -> Seen {
    let events = Events::default();
    let mut service = layer.observe(listen(&events)).layer(callee.clone());
    let begin = Instant::now();
    let answer = service.ready().await.expect("always ready").call(Get).await;
    let after = u64::try_from(begin.elapsed().as_millis()).expect("short");
    assert_eq!(callee.alive(), 0, "an attempt goes on after the answer");
    let events = events.lock().expect("not poisoned").clone();
    Seen { answer, after, events }
}

fn failure() -> RetryPolicyBuilder {
    RetryPolicy::failure().idempotent(true).backoff(Backoff::None)
}

fn backup(ms: u32) -> RetryPolicyBuilder {
    RetryPolicy::backup(ms * MS).idempotent(true)
}

fn mixed(ms: u32) -> RetryPolicyBuilder {
    RetryPolicy::mixed(ms * MS).idempotent(true)
}

fn built(policy: RetryPolicyBuilder) -> RetryPolicy {
    policy.build().expect("it can be")
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_sent_again_up_to_the_limit() {
    let callee = Callee::doing([fails(1), fails(1), ok(1)]);
    let seen = call(built(failure()), &callee).await;
    assert_eq!(seen.answer.unwrap(), 1);

    let callee = Callee::doing([fails(1), fails(1), fails(1)]);
    let seen = call(built(failure()), &callee).await;
    assert_eq!(seen.answer.as_ref().unwrap_err().to_string(), "failed", "the user's own error");
    assert_eq!(callee.attempts(), 3, "two retries by default, as in Kitex");
    assert_eq!(seen.stopped(), Some(StopReason::MaxRetries));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_executed_is_not_repeated_unless_the_method_is_idempotent() {
    let callee = Callee::doing([fails(1)]);
    let seen = call(RetryPolicy::default(), &callee).await;
    seen.answer.as_ref().unwrap_err();
    assert_eq!(callee.attempts(), 1);
    assert_eq!(seen.stopped(), Some(StopReason::NotIdempotent));
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_repeated_whatever_it_does() {
    let mut callee = Callee::doing([fails(0), ok(1)]);
    callee.refuses = Some(Rejection::unavailable("loadbalance", "no_endpoint"));
    let seen = call(RetryPolicy::default(), &callee).await;
    assert_eq!(seen.answer.unwrap(), 1);
    assert_eq!(callee.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_ends_the_retries() {
    let mut callee = Callee::doing([fails(0)]);
    callee.refuses = Some(Rejection::unavailable("circuitbreak", "circuit_open"));
    let seen = call(built(failure()), &callee).await;
    assert!(Rejection::find_in(seen.answer.as_ref().unwrap_err()).is_some());
    assert_eq!(callee.attempts(), 1);
    assert_eq!(seen.stopped(), Some(StopReason::CircuitOpen));
}

#[tokio::test(start_paused = true)]
async fn a_time_out_is_repeated_only_if_the_policy_says_so() {
    let timed_out = Rejection::deadline_exceeded("timeout", "timed_out").sent();
    for (retries, attempts) in [(true, 2), (false, 1)] {
        let mut callee = Callee::doing([fails(1), ok(1)]);
        callee.refuses = Some(timed_out.clone());
        let policy = built(failure().retry_timeouts(retries));
        let _ = call(policy, &callee).await;
        assert_eq!(callee.attempts(), attempts);
    }
}

/// The table of Kitex's own tests (`pkg/retry`), in ms: an attempt's time-out, what the attempts
/// do, and when the call is over, for mixed, failure and backup. Where Kitex's backup request gives
/// the first answer, an error at 200, ours waits for the attempt that is still running.
#[tokio::test(start_paused = true)]
async fn kitex_own_table_of_scenarios_holds() {
    use outrigger_retry::TimeoutLayer;
    let policies = [mixed(100).retries(2), failure().retries(2), backup(100).retries(2)].map(built);
    let rows = [
        (200, vec![hangs(), ok(150), ok(150)], [Ok::<u64, u64>(250), Ok(350), Ok(250)]),
        (300, vec![hangs(), ok(150), ok(150)], [Ok(250), Ok(450), Ok(250)]),
        (100, vec![hangs(), hangs(), hangs(), hangs()], [Err(300), Err(300), Err(100)]),
    ];
    for (timeout, does, expected) in rows {
        for (policy, expected) in policies.iter().zip(expected) {
            let callee = Callee::doing(does.clone());
            let attempts = TimeoutLayer::after(timeout * MS).layer(callee.clone());
            let layer = RetryLayer::new(*policy).budget(RetryBudget::unlimited());
            let mut service = layer.layer(attempts);
            let begin = Instant::now();
            let answer = service.ready().await.unwrap().call(Get).await;
            let after = u64::try_from(begin.elapsed().as_millis()).unwrap();
            let seen = if answer.is_ok() { Ok(after) } else { Err(after) };
            let mode = policy.mode();
            assert_eq!(seen, expected, "{mode:?} with a time-out of {timeout} and {does:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_mixed_policy_retries_after_its_back_off_while_the_others_go_on() {
    // Kitex: delay 300, fixed back-off 100, two retries; attempt `k` succeeds in 100, others fail
    // in 150.
    let expected = [Ok(100), Ok(350), Ok(600), Err(650)];
    for (good, expected) in expected.into_iter().enumerate() {
        let does = (0..3).map(|k| if k == good { ok(100) } else { fails(150) });
        let callee = Callee::doing(does);
        let backoff = Backoff::Fixed { delay: 100 * MS };
        let seen = call(built(mixed(300).retries(2).backoff(backoff)), &callee).await;
        let result = if seen.answer.is_ok() { Ok(seen.after) } else { Err(seen.after) };
        assert_eq!(result, expected, "attempt {good} is the good one");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_acceptable_answer_wins_not_the_first_answer() {
    let callee = Callee::doing([ok(50), fails(5)]);
    let seen = call(built(backup(10)), &callee).await;
    assert_eq!((seen.answer.as_ref().unwrap(), seen.after), (&50, 50));
    assert!(!seen.has(RetryEvent::BackupWon { number: 1 }));
}

#[tokio::test(start_paused = true)]
async fn a_backup_goes_beside_the_first_and_the_loser_is_cancelled_at_once() {
    let callee = Callee::doing([hangs(), ok(5)]);
    let seen = call(built(backup(10)), &callee).await;
    assert_eq!((seen.answer.as_ref().unwrap(), seen.after), (&5, 15));
    assert_eq!(callee.times(), [0, 10]);
    assert!(seen.has(RetryEvent::BackupWon { number: 1 }));

    let callee = Callee::doing([ok(12), hangs()]);
    let seen = call(built(backup(10)), &callee).await;
    assert_eq!(seen.after, 12);
    assert!(seen.has(RetryEvent::BackupLost { number: 1 }));
}

#[tokio::test(start_paused = true)]
async fn a_quick_call_sends_no_backup() {
    let callee = Callee::doing([ok(9)]);
    let seen = call(built(backup(10)), &callee).await;
    assert_eq!((seen.answer.unwrap(), callee.attempts()), (9, 1));
}

#[tokio::test(start_paused = true)]
async fn a_backup_policy_does_not_repeat_what_failed() {
    let callee = Callee::doing([fails(5)]);
    let seen = call(built(backup(10)), &callee).await;
    seen.answer.as_ref().unwrap_err();
    assert_eq!((seen.after, callee.attempts()), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn a_mixed_policy_sends_the_next_at_once_when_an_attempt_fails_before_the_delay() {
    let callee = Callee::doing([fails(5), ok(5)]);
    let seen = call(built(mixed(100)), &callee).await;
    assert_eq!((seen.answer.unwrap(), seen.after), (5, 10));
}

#[tokio::test(start_paused = true)]
async fn two_backups_come_one_delay_apart() {
    let callee = Callee::doing([hangs(), hangs(), ok(5)]);
    let seen = call(built(backup(10).retries(2)), &callee).await;
    assert_eq!(callee.times(), [0, 10, 20]);
    assert!(seen.has(RetryEvent::BackupWon { number: 2 }));
    assert!(seen.has(RetryEvent::BackupLost { number: 1 }));
}

#[tokio::test(start_paused = true)]
async fn a_delay_of_zero_sends_all_at_once() {
    let callee = Callee::doing([ok(9), ok(5), ok(7)]);
    let seen = call(built(backup(0).retries(2)), &callee).await;
    assert_eq!(callee.times(), [0, 0, 0]);
    assert_eq!(seen.after, 5);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_refuses_a_backup_skips_the_backup_and_not_the_call() {
    let none = RetryBudgetPolicy::builder().ratio(0.0).reserve(0).build().expect("it can be");
    let layer = RetryLayer::new(built(backup(10))).budget(RetryBudget::new(none));
    let callee = Callee::doing([ok(50)]);
    let seen = call_with(layer, &callee).await;
    assert_eq!((seen.answer.as_ref().unwrap(), seen.after), (&50, 50));
    assert!(seen.has(RetryEvent::BudgetExhausted { kind: AttemptKind::Backup }));
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_waits_holds_its_share_and_gives_it_back_when_it_is_dropped() {
    let one = RetryBudgetPolicy::builder().ratio(0.0).reserve(1).build().expect("it can be");
    let budget = RetryBudget::new(one);
    let policy = built(failure().backoff(Backoff::Fixed { delay: 100 * MS }));
    let layer = RetryLayer::new(policy).budget(budget.clone());
    let callee = Callee::doing([fails(1), fails(1)]);
    let mut service = layer.layer(callee.clone());

    let waiting = tokio::time::timeout(50 * MS, service.ready().await.unwrap().call(Get));
    let mut waiting = tokio_test::task::spawn(waiting);
    assert!(waiting.poll().is_pending());
    tokio::time::advance(2 * MS).await;
    assert!(waiting.poll().is_pending());
    assert_eq!(budget.snapshot().waiting, 1);
    service.ready().await.unwrap().call(Get).await.unwrap_err();
    assert_eq!(callee.attempts(), 2, "the waiting retry holds the only share");

    drop(waiting);
    assert_eq!(budget.snapshot().waiting, 0);
    assert!(budget.try_acquire().is_some());
}

#[tokio::test(start_paused = true)]
async fn attempts_stay_within_the_budget_when_all_fails() {
    let budget =
        RetryBudget::new(RetryBudgetPolicy::builder().ratio(0.3).reserve(0).build().unwrap());
    let layer = RetryLayer::new(built(failure())).budget(budget);
    let callee = Callee::doing((0..2_000).map(|_| fails(0)));
    let mut service = layer.layer(callee.clone());
    for calls in 1..=1_000 {
        service.ready().await.unwrap().call(Get).await.unwrap_err();
        let most = calls + calls * 3 / 10;
        assert!(callee.attempts() <= most, "{} attempts of {calls} calls", callee.attempts());
    }
    assert!(callee.attempts() >= 1_299, "0.3 is 0.3: {}", callee.attempts());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_serves_a_retry_is_not_retried() {
    let callee = Callee::doing([fails(1)]);
    let seen = Chain::default().with_retry(true).scope(call(built(failure()), &callee)).await;
    seen.answer.as_ref().unwrap_err();
    assert_eq!(callee.attempts(), 1);
    assert_eq!(seen.stopped(), Some(StopReason::ChainStop));

    let callee = Callee::doing([fails(1), ok(1)]);
    let off = built(failure().chain_stop(false));
    let seen = Chain::default().with_retry(true).scope(call(off, &callee)).await;
    seen.answer.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_sent_when_no_time_is_left() {
    let deadline = Instant::now() + 105 * MS;
    let backoff = Backoff::Fixed { delay: 100 * MS };
    let callee = Callee::doing([fails(10)]);
    let chain = Chain::default().with_deadline(Some(deadline));
    let seen = chain.scope(call(built(failure().backoff(backoff)), &callee)).await;
    seen.answer.as_ref().unwrap_err();
    assert_eq!(seen.after, 10, "it is not waited for in vain");
    assert_eq!(seen.stopped(), Some(StopReason::NoTimeLeft));
}

#[tokio::test(start_paused = true)]
async fn the_longest_duration_stops_retries_and_gives_the_users_error() {
    let backoff = Backoff::Fixed { delay: 100 * MS };
    let callee = Callee::doing([fails(10)]);
    let policy = built(failure().backoff(backoff).max_duration(100 * MS));
    let seen = call(policy, &callee).await;
    assert_eq!(seen.answer.as_ref().unwrap_err().to_string(), "failed");
    assert_eq!(seen.stopped(), Some(StopReason::NoTimeLeft));
}

#[tokio::test(start_paused = true)]
async fn what_a_refusal_says_about_when_to_come_back_is_waited_for() {
    let refusal = Rejection::exhausted("ratelimit", "rate").with_retry_after(70 * MS);
    let mut callee = Callee::doing([fails(0), ok(1)]);
    callee.refuses = Some(refusal.clone());
    call(built(failure()), &callee).await.answer.unwrap();
    assert_eq!(callee.times(), [0, 70]);

    let mut callee = Callee::doing([fails(0)]);
    callee.refuses = Some(refusal);
    let seen = call(built(failure().max_pushback(50 * MS)), &callee).await;
    assert_eq!(seen.stopped(), Some(StopReason::Pushback));
}

#[tokio::test(start_paused = true)]
async fn back_offs_grow_as_the_policy_says() {
    let backoff = Backoff::exponential(10 * MS, 1_000 * MS).with_jitter(Jitter::None);
    let callee = Callee::doing([fails(0), fails(0), fails(0), ok(0)]);
    call(built(failure().retries(3).backoff(backoff)), &callee).await.answer.unwrap();
    assert_eq!(callee.times(), [0, 10, 30, 70]);
}

#[tokio::test(start_paused = true)]
async fn in_shadow_nothing_is_sent_twice_nor_waited_for_and_all_is_told() {
    let retry = failure().backoff(Backoff::Fixed { delay: 100 * MS });
    let callee = Callee::doing([fails(5)]);
    let seen = call(built(retry.enforcement(Enforcement::Shadow)), &callee).await;
    seen.answer.as_ref().unwrap_err();
    assert_eq!((seen.after, callee.attempts()), (5, 1));
    assert!(seen.has(RetryEvent::AttemptSent {
        number: 1,
        kind: AttemptKind::Retry,
        shadow: true
    }));

    let callee = Callee::doing([ok(50)]);
    let seen = call(built(backup(10).enforcement(Enforcement::Shadow)), &callee).await;
    assert_eq!((seen.after, callee.attempts()), (50, 1));
    assert!(seen.has(RetryEvent::AttemptSent {
        number: 1,
        kind: AttemptKind::Backup,
        shadow: true
    }));
}

#[tokio::test(start_paused = true)]
async fn a_disabled_policy_does_and_tells_nothing() {
    let callee = Callee::doing([fails(5)]);
    let seen = call(built(failure().enforcement(Enforcement::Disabled)), &callee).await;
    seen.answer.unwrap_err();
    assert_eq!(seen.events, []);
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_replaced_while_calls_go_on() {
    let layer = RetryLayer::new(RetryPolicy::off()).budget(RetryBudget::unlimited());
    let callee = Callee::doing([fails(0), fails(0), ok(0)]);
    let mut service = layer.layer(callee.clone());
    service.ready().await.unwrap().call(Get).await.unwrap_err();
    layer.handle().policy().replace(built(failure()));
    service.ready().await.unwrap().call(Get).await.unwrap();
    assert_eq!(callee.attempts(), 3);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_told_with_how_it_ended() {
    let callee = Callee::doing([fails(1), ok(1)]);
    let seen = call(built(failure()), &callee).await;
    let sent = |number, kind| RetryEvent::AttemptSent { number, kind, shadow: false };
    let ended = |number, outcome| RetryEvent::AttemptEnded { number, outcome };
    assert_eq!(
        seen.events,
        [
            sent(0, AttemptKind::First),
            ended(0, Outcome::Failure),
            sent(1, AttemptKind::Retry),
            ended(1, Outcome::Success),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_live_quantile_learns_when_to_send_a_backup_and_is_not_blinded_by_it() {
    let quantile = QuantileDelay::of(0.9).min_samples(20);
    let layer = RetryLayer::new(built(RetryPolicy::backup(quantile).idempotent(true)))
        .budget(RetryBudget::unlimited());
    // One call in twenty takes 100 ms, the others 10 ms.
    let callee = Callee::doing((0..3_000).map(|n| if n % 20 == 19 { ok(100) } else { ok(10) }));
    let mut service = layer.layer(callee.clone());
    let mut longest = Duration::ZERO;
    for call in 0..1_000 {
        let begin = Instant::now();
        service.ready().await.unwrap().call(Get).await.unwrap();
        if call > 100 {
            longest = longest.max(begin.elapsed());
        }
    }
    let delay = layer.handle().latencies().delay(&quantile, Instant::now()).expect("samples");
    assert!((9 * MS..=12 * MS).contains(&delay), "{delay:?}");
    assert!(longest <= 25 * MS, "a slow call waits for {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_dropped_at_random_leave_nothing_behind() {
    let mut rng = fastrand::Rng::with_seed(7);
    let budget = RetryBudget::new(RetryBudgetPolicy::builder().ratio(1.0).build().unwrap());
    let policy = built(mixed(10).retries(2).backoff(Backoff::Fixed { delay: 5 * MS }));
    let layer = RetryLayer::new(policy).budget(budget.clone());
    let callee = Callee::doing((0..30_000).map(|_| match rng.u32(..4) {
        0 => fails(rng.u32(1..20)),
        1 => hangs(),
        _ => ok(rng.u32(1..30)),
    }));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let mut service = layer.layer(callee.clone());
        let cut = rng.u32(0..40) * MS;
        calls.spawn(async move {
            let call = service.ready().await.unwrap().call(Get);
            let _ = tokio::time::timeout(cut, call).await;
        });
    }
    while calls.join_next().await.is_some() {}
    assert_eq!(callee.alive(), 0, "attempts go on");
    assert_eq!(budget.snapshot().waiting, 0, "shares are held");
}
