//! What a user of the concurrency limit sees, polled by hand under paused time.

mod support;

use std::{
    future::{Ready, pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use outrigger_core::{Criticality, Enforcement};
use outrigger_ratelimit::{
    Asking, ConcurrencyLimit, ConcurrencyLimitEvent, ConcurrencyLimitLayer, ConcurrencyLimitPanel,
    ConcurrencyLimitPolicy, ConcurrencyLimitPolicyBuilder, ConcurrencyRefusal, ShedWaiting,
    WaitOrder,
};
use support::{Held, InRequest, Log, MS, Request, SECOND, reason, rejection};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{BoxError, Layer, Service, service_fn};

type Call = task::Spawn<Box<dyn Future<Output = Result<u32, BoxError>> + Unpin + Send>>;

fn of(limit: u32) -> ConcurrencyLimitPolicyBuilder {
    ConcurrencyLimitPolicy::builder().limit(limit)
}

fn queued(limit: u32, waiting: u32) -> ConcurrencyLimitPolicyBuilder {
    of(limit).max_waiting(waiting)
}

/// Starts calls on services of one layer.
struct Front {
    start: Box<dyn FnMut(Request) -> Call>,
    held: Held,
    limit: ConcurrencyLimit<Log<ConcurrencyLimitEvent>>,
    log: Log<ConcurrencyLimitEvent>,
}

fn front(policy: ConcurrencyLimitPolicyBuilder) -> Front {
    let held = Held::default();
    let log = Log::default();
    let policy = policy.build().expect("a valid policy");
    let layer = ConcurrencyLimitLayer::new(policy).observe(log.clone()).context(InRequest);
    let limit = layer.handle().clone();
    let service = layer.layer(held.clone());
    let start = move |request| {
        let mut service = service.clone();
        assert_ready_ok!(task::spawn(()).enter(|cx, _| service.poll_ready(cx)));
        let future: Box<dyn Future<Output = _> + Unpin + Send> =
            Box::new(Box::pin(service.call(request)));
        task::spawn(future)
    };
    Front { start: Box::new(start), held, limit, log }
}

/// Polls who was woken until nobody is; gives back how many are done.
fn settle<'a>(calls: impl IntoIterator<Item = &'a mut Call>) -> usize {
    let mut calls: Vec<_> = calls.into_iter().collect();
    let mut done = 0;
    while let Some(woken) = calls.iter_mut().find(|call| call.is_woken()) {
        done += usize::from(woken.poll().is_ready());
    }
    done
}

impl Front {
    fn start(&mut self, name: u32) -> Call {
        self.start_request(Request::named(name))
    }

    fn start_request(&mut self, request: Request) -> Call {
        let mut call = (self.start)(request);
        // A call that was refused must be asked again for its answer; a running one may be too.
        let _ = call.is_woken();
        call.enter(|_, _| ());
        call
    }

    #[track_caller]
    fn waits(&mut self, name: u32) -> Call {
        let mut call = self.start(name);
        assert_pending!(call.poll());
        call
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_beyond_the_limit_is_refused_at_once_and_never_reaches_the_inner_service() {
    let mut front = front(of(2));
    let _running = [front.waits(0), front.waits(1)];
    let error = assert_ready_err!(front.start(2).poll());
    assert_eq!(reason(&error), "limit_reached");
    assert!(!rejection(&error).was_sent());
    assert_eq!(front.held.running(), [0, 1]);
    let refused = ConcurrencyLimitEvent::Refused {
        reason: ConcurrencyRefusal::LimitReached,
        criticality: Criticality::Critical,
        in_flight: 2,
        limit: 2,
        shadow: false,
    };
    assert_eq!(front.log.all(), [refused], "told exactly once");
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_is_told_when_to_come_back_if_the_policy_says() {
    let mut front = front(of(1).retry_after(250 * MS));
    let _running = front.waits(0);
    let error = assert_ready_err!(front.start(1).poll());
    assert_eq!(rejection(&error).retry_after(), Some(250 * MS));
}

#[tokio::test(start_paused = true)]
async fn a_place_comes_back_with_the_answer_even_if_the_future_is_kept() {
    let mut front = front(of(1));
    let mut kept = front.waits(0);
    front.held.answer();
    assert_eq!(assert_ready_ok!(kept.poll()), 0);
    assert_eq!(front.limit.in_flight(), 0);
    let _running = front.waits(1);
    drop(kept);
    assert_eq!(front.limit.in_flight(), 1);
}

/// Answers at once, until it breaks.
#[derive(Clone, Default)]
struct Breaks(Arc<AtomicBool>);

impl Service<()> for Breaks {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(if self.0.load(Ordering::Relaxed) { Err("broken".into()) } else { Ok(()) })
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(0))
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_for_which_the_inner_service_is_broken_comes_back_even_if_the_future_is_kept() {
    let layer = ConcurrencyLimitLayer::new(queued(1, 1).build().unwrap());
    let inner = Breaks::default();
    let running = layer.handle().try_acquire().unwrap();
    let mut kept = task::spawn(layer.layer(inner.clone()).call(()));
    assert_pending!(kept.poll());
    inner.0.store(true, Ordering::Relaxed);
    drop(running);
    assert_eq!(layer.handle().in_flight(), 1, "its place already");
    assert_eq!(assert_ready_err!(kept.poll()).to_string(), "broken");
    assert_eq!(layer.handle().in_flight(), 0);
}

#[test]
fn a_ready_but_uncalled_clone_holds_nothing() {
    let layer = ConcurrencyLimitLayer::new(of(1).build().unwrap());
    let service = layer.layer(service_fn(|()| pending::<Result<(), BoxError>>()));
    let _parked: Vec<_> = (0..10)
        .map(|_| {
            let mut clone = service.clone();
            assert_ready_ok!(task::spawn(()).enter(|cx, _| clone.poll_ready(cx)));
            clone
        })
        .collect();
    assert_eq!(layer.handle().in_flight(), 0);
    assert_pending!(task::spawn(service.clone().call(())).poll());
}

#[tokio::test(start_paused = true)]
async fn waiters_get_their_places_in_the_order_in_which_they_came() {
    let mut front = front(queued(1, 100).max_wait(SECOND));
    let mut calls: Vec<_> = (0..50).map(|name| front.waits(name)).collect();
    assert_eq!(front.limit.waiting(), 49);
    for name in 0..50_u32 {
        assert_eq!(front.held.running(), [name]);
        front.held.answer();
        assert_ready_ok!(calls[name as usize].poll());
        if let Some(next) = calls.get_mut(name as usize + 1) {
            assert!(next.is_woken());
            assert_pending!(next.poll());
        }
        let woken = calls.iter().skip(name as usize + 2).filter(|call| call.is_woken()).count();
        assert_eq!(woken, 0, "nobody else is woken");
    }
    assert_eq!((front.limit.in_flight(), front.limit.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn two_thousand_callers_over_a_queue_of_a_hundred_are_refused_at_once_but_for_it() {
    let mut front = front(queued(1, 100));
    let _running = front.waits(0);
    let mut calls: Vec<_> = (1..=2_000).map(|name| front.start(name)).collect();
    let refused = calls.iter_mut().map(|call| call.poll().is_ready()).filter(|is| *is).count();
    assert_eq!(refused, 1_900);
    assert_eq!(front.limit.waiting(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_after_its_maximum_and_leaves_the_queue() {
    let mut front = front(queued(1, 10).max_wait(50 * MS));
    let _running = front.waits(0);
    let mut waiting = front.waits(1);
    advance(49 * MS).await;
    assert_pending!(waiting.poll());
    advance(2 * MS).await;
    assert_eq!(reason(&assert_ready_err!(waiting.poll())), "waited_too_long");
    assert_eq!(front.limit.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_does_not_spin() {
    let mut front = front(queued(1, 10).max_wait(SECOND));
    let _running = front.waits(0);
    let mut waiting = front.waits(1);
    assert!(!waiting.is_woken());
    advance(300 * MS).await;
    assert!(!waiting.is_woken());
    assert_pending!(waiting.poll());
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_deadline_of_the_call() {
    let mut front = front(queued(1, 10).max_wait(SECOND));
    let _running = front.waits(0);
    let mut waiting = front.start_request(Request::named(1).until(Instant::now() + 20 * MS));
    assert_pending!(waiting.poll());
    advance(21 * MS).await;
    assert_eq!(reason(&assert_ready_err!(waiting.poll())), "deadline_passed");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_cannot_end_before_the_deadline_is_refused_at_once() {
    let mut front = front(queued(1, 100).max_wait(10 * SECOND));
    let mut calls: Vec<_> = (0..5).map(|name| front.waits(name)).collect();
    // The limit learns that a place comes every 100 ms.
    for call in calls.iter_mut().take(3) {
        advance(100 * MS).await;
        assert_pending!(call.poll());
        front.held.answer();
        assert_ready_ok!(call.poll());
    }
    assert_pending!(calls[3].poll());
    let now = Instant::now();
    let mut hopeless = front.start_request(Request::named(5).until(now + 150 * MS));
    assert_eq!(reason(&assert_ready_err!(hopeless.poll())), "no_time_to_wait");
    let mut fine = front.start_request(Request::named(6).until(now + 250 * MS));
    assert_pending!(fine.poll());
}

#[tokio::test(start_paused = true)]
async fn work_whose_deadline_has_passed_is_never_started() {
    let mut front = front(queued(1, 10).max_wait(SECOND));
    advance(SECOND).await;
    let late = Instant::now();
    let mut call = front.start_request(Request::named(0).until(late));
    assert_eq!(reason(&assert_ready_err!(call.poll())), "deadline_passed");

    let mut running = front.waits(1);
    let mut waiting = front.start_request(Request::named(2).until(Instant::now() + 5 * MS));
    assert_pending!(waiting.poll());
    let mut next = front.waits(3);
    // Its turn comes at its deadline, before its own timer has been polled.
    advance(6 * MS).await;
    front.held.answer();
    assert_ready_ok!(running.poll());
    assert_eq!(reason(&assert_ready_err!(waiting.poll())), "deadline_passed");
    assert_pending!(next.poll());
    assert_eq!(front.held.running(), [3]);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_waiter_before_or_after_it_got_its_place_hands_the_turn_on() {
    for after in [false, true] {
        let mut front = front(queued(1, 10));
        let mut running = front.waits(0);
        let (gone, mut next) = (front.waits(1), front.waits(2));
        if after {
            front.held.answer();
            assert_ready_ok!(running.poll());
            assert!(gone.is_woken() && !next.is_woken());
            drop(gone);
        } else {
            drop(gone);
            front.held.answer();
            assert_ready_ok!(running.poll());
        }
        assert!(next.is_woken(), "no turn is lost");
        assert_pending!(next.poll());
        assert_eq!(front.held.running(), [2]);
        drop(next);
        assert_eq!((front.limit.in_flight(), front.limit.waiting()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_dropped_at_random_leave_every_place_free() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut front = front(queued(8, 16).max_wait(30 * MS));
    let mut alive: Vec<Call> = Vec::new();
    for name in 0..10_000 {
        let mut call = front.start(name);
        if rng.bool() || call.poll().is_pending() {
            alive.push(call);
        }
        match rng.u32(0..6) {
            0 | 1 if !alive.is_empty() => drop(alive.swap_remove(rng.usize(0..alive.len()))),
            2 if !front.held.running().is_empty() => front.held.answer(),
            3 => advance(MS).await,
            4 => alive.retain_mut(|call| !call.is_woken() || call.poll().is_pending()),
            _ => {}
        }
        if alive.len() > 64 {
            drop(alive.swap_remove(rng.usize(0..alive.len())));
        }
        assert!(front.limit.in_flight() <= 8 && front.limit.waiting() <= 16);
    }
    alive.clear();
    assert_eq!((front.limit.in_flight(), front.limit.waiting()), (0, 0));
    let permits: Vec<_> = (0..8).map(|_| front.limit.try_acquire().unwrap()).collect();
    assert!(front.limit.try_acquire().is_err());
    drop(permits);
}

#[tokio::test(start_paused = true)]
async fn growing_lets_waiters_in_and_shrinking_lets_the_excess_drain() {
    let mut front = front(queued(1, 10));
    let mut calls: Vec<_> = (0..4).map(|name| front.waits(name)).collect();
    front.limit.policy().update(|policy| policy.to_builder().limit(3).build().unwrap());
    front.limit.refresh();
    calls.iter_mut().take(3).for_each(|call| assert_pending!(call.poll()));
    assert_eq!(front.held.running(), [0, 1, 2]);

    front.limit.policy().update(|policy| policy.to_builder().limit(1).build().unwrap());
    for left in [2, 1] {
        front.held.answer();
        assert_eq!(settle(calls.iter_mut().take(3)), 1);
        assert_eq!(front.limit.in_flight(), left);
        assert_pending!(calls[3].poll());
    }
    front.held.answer();
    assert_ready_ok!(calls[2].poll());
    assert_pending!(calls[3].poll());
    assert_eq!(front.held.running(), [3]);
}

#[test]
fn ten_workers_over_a_limit_of_a_thousand_get_exactly_a_thousand() {
    let limit = ConcurrencyLimit::new(of(1_000).build().unwrap());
    let admitted: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    let permits = (0..1_000).filter_map(|_| limit.try_acquire().ok());
                    permits.map(std::mem::forget).count()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(admitted, 1_000);
    assert!(limit.try_acquire().is_err());
}

#[test]
fn a_panicking_inner_service_leaks_no_place() {
    let layer = ConcurrencyLimitLayer::new(of(1).build().unwrap());
    let inner = service_fn(|panics: bool| {
        assert!(!panics, "the inner service panics in `call`");
        ready(Ok::<_, BoxError>(()))
    });
    let mut service = layer.layer(inner);
    catch_unwind(AssertUnwindSafe(|| drop(service.call(true)))).unwrap_err();
    assert_eq!(layer.handle().in_flight(), 0);
    assert_ready_ok!(task::spawn(service.call(false)).poll());
}

#[test]
fn an_observer_that_asks_the_limit_again_does_not_deadlock() {
    let handle: Arc<std::sync::OnceLock<ConcurrencyLimit>> = Arc::default();
    let asked = Arc::new(AtomicU64::new(0));
    let inner = ConcurrencyLimit::new(queued(1, 1).build().unwrap());
    handle.set(inner.clone()).unwrap();
    let (observed, count) = (Arc::clone(&handle), Arc::clone(&asked));
    let limit = ConcurrencyLimit::builder(of(1).build().unwrap())
        .observe(move |_: &str, _: &ConcurrencyLimitEvent| {
            drop(observed.get().unwrap().try_acquire());
            count.fetch_add(1, Ordering::Relaxed);
        })
        .build();
    let _held = limit.try_acquire().unwrap();
    assert!(limit.try_acquire().is_err());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn shadow_never_refuses_nor_delays_and_tells_what_it_would_have_done() {
    let mut refusing = front(of(1).enforcement(Enforcement::Shadow));
    let _running = [refusing.waits(0), refusing.waits(1)];
    assert_eq!(refusing.held.running(), [0, 1]);
    assert!(matches!(
        refusing.log.all()[..],
        [ConcurrencyLimitEvent::Refused { shadow: true, in_flight: 1, limit: 1, .. }]
    ));
    assert_eq!(refusing.limit.in_flight(), 1, "as many as would have been let in");

    let mut queueing = front(queued(1, 5).enforcement(Enforcement::Shadow));
    let _running = [queueing.waits(0), queueing.waits(1)];
    assert_eq!(queueing.held.running(), [0, 1]);
    let criticality = Criticality::Critical;
    assert_eq!(queueing.log.all(), [ConcurrencyLimitEvent::WouldWait { criticality }]);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_limit_counts_nothing_and_lets_those_in_that_wait() {
    let mut front = front(queued(1, 5));
    let mut calls = [front.waits(0), front.waits(1)];
    let disabled = Enforcement::Disabled;
    front.limit.policy().update(|policy| policy.with_enforcement(disabled));
    front.limit.refresh();
    assert_pending!(calls[1].poll());
    let _more = front.waits(2);
    assert_eq!(front.held.running(), [0, 1, 2]);
    assert_eq!((front.limit.in_flight(), front.limit.waiting()), (1, 0));
    front.held.answer();
    assert_ready_ok!(calls[0].poll());
    assert_eq!(front.limit.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_most_critical_waiter_goes_first_and_takes_the_place_of_the_least_critical() {
    use Criticality::{Critical, CriticalPlus, Sheddable, SheddablePlus};
    let mut front = front(queued(1, 4));
    let mut running = front.waits(0);
    let mut wait = |name, class| {
        let mut call = front.start_request(Request::named(name).class(class));
        assert_pending!(call.poll());
        call
    };
    let mut older = wait(1, Sheddable);
    let mut newer = wait(2, Sheddable);
    let mut plus = wait(3, SheddablePlus);
    let mut critical = wait(4, Critical);
    // The queue is full: the newest of the least critical gives way.
    let mut highest = wait(5, CriticalPlus);
    assert_eq!(reason(&assert_ready_err!(newer.poll())), "displaced");
    let mut too_late = front.start_request(Request::named(6).class(Sheddable));
    assert_eq!(reason(&assert_ready_err!(too_late.poll())), "queue_full");

    let mut began = Vec::new();
    for _ in 0..5 {
        began.extend(front.held.running());
        front.held.answer();
        settle([&mut running, &mut older, &mut plus, &mut critical, &mut highest]);
    }
    assert_eq!(began, [0, 5, 4, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn near_the_limit_the_least_critical_are_refused_first_and_an_unused_share_is_lent() {
    use Criticality::{Critical, Sheddable};
    let mut front = front(of(10).critical_reserve(0.2));
    let class = |class| move |name| Request::named(name).class(class);
    let (sheddable, critical) = (class(Sheddable), class(Critical));
    // Nobody critical is about: all ten places are lent.
    let lent: Vec<_> = (0..10).map(|name| front.start_request(sheddable(name))).collect();
    assert_eq!(front.limit.in_flight(), 10);
    let mut refused = front.start_request(critical(10));
    assert_eq!(reason(&assert_ready_err!(refused.poll())), "limit_reached");
    drop(lent);

    // Now critical calls are about: a fifth is kept for them.
    let _low: Vec<_> = (0..8).map(|name| front.start_request(sheddable(name))).collect();
    let mut shed = front.start_request(sheddable(9));
    let kept = assert_ready_err!(shed.poll());
    assert!(["kept_for_critical", "limit_reached"].contains(&reason(&kept)));
    assert!(front.limit.in_flight() <= 9);
    let mut high = front.start_request(critical(11));
    assert_pending!(high.poll());

    // A second without any, and it is lent again.
    drop(high);
    advance(SECOND + MS).await;
    let _last: Vec<_> = (0..2).map(|name| front.start_request(sheddable(name))).collect();
    assert_eq!(front.limit.in_flight(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_class_from_a_closure_is_passed_on_in_the_context() {
    let held = Held::default();
    let layer = ConcurrencyLimitLayer::new(of(1).build().unwrap())
        .context(InRequest)
        .criticality(|request: &Request| (request.name == 7).then_some(Criticality::Sheddable));
    let mut service = layer.layer(held.clone());
    assert_ready_ok!(task::spawn(()).enter(|cx, _| service.poll_ready(cx)));
    let _call = service.call(Request::named(7));
    assert_eq!(held.first_context().criticality, Some(Criticality::Sheddable));
}

/// Two calls come for each that is answered, every 10 ms. Gives back who was answered.
async fn overload(front: &mut Front) -> Vec<u32> {
    let mut calls = vec![front.waits(0)];
    let mut answered = Vec::new();
    for round in 0..60 {
        calls.push(front.waits(1 + 2 * round));
        calls.push(front.waits(2 + 2 * round));
        advance(10 * MS).await;
        answered.extend(front.held.running());
        front.held.answer();
        settle(&mut calls);
    }
    answered
}

#[tokio::test(start_paused = true)]
async fn under_overload_the_newest_goes_first() {
    let policy = queued(1, 1_000).max_wait(10 * SECOND).shed_waiting(ShedWaiting::codel());
    let mut front = front(policy.order(WaitOrder::NewestFirstUnderOverload));
    let answered = overload(&mut front).await;
    assert_eq!(answered[..5], [0, 1, 2, 3, 4], "first come, first served before the overload");
    let newest = *answered.last().unwrap();
    assert!(newest > 110, "under overload the newest: {newest}");
}

#[tokio::test(start_paused = true)]
async fn under_overload_who_waited_too_long_is_refused_so_that_the_others_wait_less() {
    let policy = queued(1, 1_000).max_wait(10 * SECOND).shed_waiting(ShedWaiting::codel());
    let mut front = front(policy);
    overload(&mut front).await;
    let events = front.log.all();
    let refused = events.iter().filter(|event| match event {
        ConcurrencyLimitEvent::Refused { reason, .. } => {
            assert_eq!(*reason, ConcurrencyRefusal::WaitedTooLong);
            true
        }
        _ => false,
    });
    assert!(refused.count() > 30);
    assert!(front.limit.waiting() < 10, "{}", front.limit.waiting());
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_places_and_a_hundred_thousand_keys_stay_within_the_cap() {
    let capacity = std::num::NonZeroUsize::new(1_000).unwrap();
    let panel = ConcurrencyLimitPanel::<u32>::with_capacity(of(1).build().unwrap(), capacity);
    let _held = panel.limit(&7).try_acquire().unwrap();
    assert_eq!(panel.limit(&7).try_acquire().unwrap_err().key(), Some("7"));
    for key in 0..100_000 {
        drop(panel.limit(&key).try_acquire());
        assert!(panel.len() <= 1_000);
    }
    assert!(panel.limit(&7).try_acquire().is_err(), "who is busy is spared");
}

#[tokio::test(start_paused = true)]
async fn a_limit_works_without_tower() {
    let limit = ConcurrencyLimit::new(queued(1, 1).max_wait(Duration::MAX).build().unwrap());
    let held = limit.acquire(Asking::default()).await.unwrap();
    let mut waiting = task::spawn(limit.acquire(Asking::default()));
    assert_pending!(waiting.poll());
    drop(held);
    assert!(waiting.is_woken());
    drop(assert_ready!(waiting.poll()).unwrap());
    assert_eq!(limit.in_flight(), 0);
}
