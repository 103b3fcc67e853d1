//! The laws meet layers that do something: layers that wait for timers, and tower's own.

mod support;

use std::{
    future::{Ready, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use outrigger_testing::{Scripted, laws};
use support::assert_broken;
use tower::{
    BoxError, Service,
    layer::layer_fn,
    limit::ConcurrencyLimitLayer,
    retry::{Policy, RetryLayer},
    timeout::TimeoutLayer,
};
use tower_layer::Layer;

const BACK_OFF: Duration = Duration::from_millis(100);

/// Tries again twice after an error, each time after a while.
#[derive(Clone)]
struct TriesAgain {
    inner: Scripted,
}

impl Service<u32> for TriesAgain {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> Self::Future {
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let first = inner.call(request);
        Box::pin(async move {
            let mut result = first.await;
            for _ in 0..2 {
                if result.is_ok() {
                    break;
                }
                tokio::time::sleep(BACK_OFF).await;
                poll_fn(|cx| inner.poll_ready(cx)).await?;
                result = inner.call(request).await;
            }
            result
        })
    }
}

/// Lets a clone of the inner service wait, while the ready one stays where it is.
#[derive(Clone)]
struct LeavesTheReadyOneBehind {
    inner: Scripted,
}

impl Service<u32> for LeavesTheReadyOneBehind {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> Self::Future {
        let mut clone = self.inner.clone();
        Box::pin(async move {
            tokio::time::sleep(BACK_OFF).await;
            poll_fn(|cx| clone.poll_ready(cx)).await?;
            clone.call(request).await
        })
    }
}

/// Runs each call in a task of its own.
#[derive(Clone)]
struct Spawns {
    inner: Scripted,
    aborts: bool,
}

impl Service<u32> for Spawns {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> Self::Future {
        let task = tokio::spawn(self.inner.call(request));
        let guard = self.aborts.then(|| AbortOnDrop(task.abort_handle()));
        Box::pin(async move {
            let result = task.await?;
            drop(guard);
            result
        })
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[test]
fn a_layer_that_waits_between_attempts_keeps_every_law() {
    laws::all(|| layer_fn(|inner| TriesAgain { inner }));
    laws::waiting_costs_no_polls(|| layer_fn(|inner| TriesAgain { inner }), 10 * BACK_OFF);
}

#[test]
fn a_layer_that_leaves_a_ready_value_behind_is_found() {
    let make = || layer_fn(|inner| LeavesTheReadyOneBehind { inner });
    laws::readiness_belongs_to_the_value_that_is_called(make);
    let how = "a call waits for a place below that its own layer parks";
    assert_broken(|| laws::a_place_below_is_never_parked(make), how);
}

#[test]
fn a_layer_that_spawns_tasks_is_given_time_for_them() {
    let spawns = |aborts| move || layer_fn(move |inner| Spawns { inner, aborts });
    let law = laws::dropping_a_call_at_any_await_point_leaves_nothing_behind;
    law(spawns(true));
    assert_broken(|| law(spawns(false)), "inner futures are still alive");
}

#[test]
fn towers_concurrency_limit_holds_the_places_of_clones_that_never_call() {
    let law = laws::a_ready_clone_that_never_calls_holds_nothing;
    let limit = |places| move || ConcurrencyLimitLayer::new(places);
    law(limit(10));
    assert_broken(|| law(limit(9)), "another from being ready");
}

/// Its future keeps the inner one until it is dropped itself, as most of tower's do.
#[test]
fn towers_futures_keep_what_is_over() {
    let law = laws::a_finished_call_that_is_kept_leaves_nothing_behind;
    let layer = || TimeoutLayer::new(Duration::from_secs(1));
    assert_broken(|| law(layer), "20 inner futures are still alive");
}

#[test]
fn towers_timeout_and_retry_keep_the_other_laws() {
    #[derive(Clone)]
    struct Never;
    impl Policy<u32, u32, BoxError> for Never {
        type Future = Ready<()>;

        fn retry(&mut self, _: &mut u32, _: &mut Result<u32, BoxError>) -> Option<Ready<()>> {
            None
        }

        fn clone_request(&mut self, request: &u32) -> Option<u32> {
            Some(*request)
        }
    }

    fn others<L>(make: impl Fn() -> L)
    where
        L: Layer<Scripted>,
        L::Service: Service<u32, Response = u32, Error = BoxError> + Clone,
    {
        laws::readiness_is_forwarded(&make);
        laws::a_call_uses_its_readiness_up(&make);
        laws::readiness_belongs_to_the_value_that_is_called(&make);
        laws::clones_copy_no_readiness(&make);
        laws::a_ready_clone_that_never_calls_holds_nothing(&make);
        laws::a_place_below_is_never_parked(&make);
        laws::the_users_error_stays(&make);
        laws::dropping_a_call_at_any_await_point_leaves_nothing_behind(&make);
        laws::a_panic_at_any_await_point_leaves_nothing_behind(&make);
        laws::a_panic_in_poll_ready_leaves_it_whole(&make);
        laws::no_wake_up_is_lost_or_spun(&make);
        laws::a_call_that_moves_is_woken_where_it_is(&make);
        laws::waiting_costs_no_polls(&make, Duration::from_millis(300));
    }
    others(|| TimeoutLayer::new(Duration::from_secs(1)));
    others(|| RetryLayer::new(Never));
    others(|| ConcurrencyLimitLayer::new(10));
}
