//! One function for each law. Each panics with a sentence that begins with `law broken`.
//!
//! `make` makes the layer anew for each law. All is polled by hand under a paused clock, in a
//! runtime of the law's own, so that layers with timers can be put to them too.

mod cancelling;
mod readiness;
mod sharing;
mod waking;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::Builder;
use tokio_test::task::{self, Spawn};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

pub use self::{
    cancelling::{
        a_finished_call_that_is_kept_leaves_nothing_behind,
        a_panic_at_any_await_point_leaves_nothing_behind,
        dropping_a_call_at_any_await_point_leaves_nothing_behind,
    },
    readiness::{
        a_ready_clone_that_never_calls_holds_nothing, clones_copy_no_readiness,
        readiness_belongs_to_the_value_that_is_called, readiness_is_forwarded,
    },
    sharing::{a_layer_applied_twice_shares_its_state, is_send_and_at_most, the_users_error_stays},
    waking::no_wake_up_is_lost_or_spun,
};
use crate::{Script, Scripted, scripted};

/// Checks every law that needs no knowledge of what the layer is for.
///
/// # Panics
///
/// When a law is broken.
pub fn all<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    readiness_belongs_to_the_value_that_is_called(&make);
    clones_copy_no_readiness(&make);
    a_ready_clone_that_never_calls_holds_nothing(&make);
    readiness_is_forwarded(&make);
    the_users_error_stays(&make);
    dropping_a_call_at_any_await_point_leaves_nothing_behind(&make);
    a_panic_at_any_await_point_leaves_nothing_behind(&make);
    a_finished_call_that_is_kept_leaves_nothing_behind(&make);
    no_wake_up_is_lost_or_spun(&make);
}

/// Runs `law` over a layer from `make`, under a paused clock.
fn check<L, R>(make: impl Fn() -> L, law: impl FnOnce(L::Service, Script) -> R) -> R
where
    L: Layer<Scripted>,
{
    paused(|| {
        let (inner, script) = scripted();
        law(make().layer(inner), script)
    })
}

fn paused<R>(law: impl FnOnce() -> R) -> R {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime with nothing but a clock").block_on(async { law() })
}

/// Makes a call on a service whose inner one is ready.
fn start<S>(service: &mut S, request: u32) -> Spawn<S::Future>
where
    S: Service<u32, Response = u32, Error = BoxError>,
{
    make_ready(service);
    task::spawn(service.call(request))
}

fn make_ready<S>(service: &mut S)
where
    S: Service<u32, Response = u32, Error = BoxError>,
{
    let ready = task::spawn(()).enter(|cx, _| service.poll_ready(cx));
    assert!(
        matches!(ready, std::task::Poll::Ready(Ok(()))),
        "law broken: the inner service is ready, but the layer is {ready:?}"
    );
}

/// More polls than any call over a scripted inner service needs.
const MANY: usize = 100;

/// Polls a call to its end, as long as somebody wakes it.
fn finish<F>(call: &mut Spawn<F>) -> Result<u32, BoxError>
where
    F: Future<Output = Result<u32, BoxError>>,
{
    for _ in 0..MANY {
        if let std::task::Poll::Ready(result) = call.poll() {
            return result;
        }
        assert!(call.is_woken(), "law broken: a call is pending, and nobody will ever wake it");
    }
    panic!("law broken: a call did not end within {MANY} polls");
}

/// A further call must go through as if nothing had been before.
fn goes_on<S>(service: &mut S, script: &Script, after: &str)
where
    S: Service<u32, Response = u32, Error = BoxError>,
{
    let alive = script.alive();
    assert!(alive == 0, "law broken: {alive} inner futures are still alive after {after}");
    script.answer(crate::Answer::Ok);
    let result = finish(&mut start(service, 1));
    assert!(
        result.is_ok_and(|answer| answer == 2),
        "law broken: the next call does not go through after {after}"
    );
}

/// Whether `act` panicked because the script said so. Any other panic goes on.
fn panics_as_scripted(act: impl FnOnce()) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(act)) else { return false };
    let said = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    if said.starts_with("the script says") {
        return true;
    }
    std::panic::resume_unwind(panic)
}
