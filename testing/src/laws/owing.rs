use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::bench::{check, check_service};
use crate::{Answer, Bare, Script, Scripted, ScriptedError, ScriptedFuture, start};

/// The inner service's error comes out as it went in: neither wrapped nor boxed again.
///
/// # Panics
///
/// When the law is broken.
pub fn the_users_error_stays<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    for answer in [Answer::Error, Answer::ErrorAfter(1)] {
        check(&make, |mut bench| {
            bench.script.answer(answer);
            let mut call = bench.start(1);
            let result = bench.finish(&mut call);
            let error = result.expect_err("law broken: an error became a response");
            assert!(error.is::<ScriptedError>(), "law broken: the user's error became {error:?}");
        });
    }
}

/// The layer needs of its inner service that it is a `Service`, and no more: neither `Clone`,
/// `Send`, `Sync` nor `'static`, nor an `Unpin` future.
///
/// A layer that needs more fails to compile. `script` is [`Script::default`], borrowed, so that
/// the inner service is not `'static`:
///
/// ```
/// use outrigger_testing::{Script, laws};
/// use tower::layer::util::Identity;
///
/// laws::needs_only_a_service(Identity::new, &Script::default());
/// ```
///
/// ```compile_fail
/// use outrigger_testing::{Script, laws};
/// use tower::util::BoxService;
///
/// // Boxing needs `Send` and `'static`.
/// laws::needs_only_a_service(BoxService::layer, &Script::default());
/// ```
///
/// # Panics
///
/// When a call does not go through.
pub fn needs_only_a_service<'a, L>(make: impl FnOnce() -> L, script: &'a Script)
where
    L: Layer<Bare<'a>>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    goes_through(make().layer(Bare::new(script)));
}

/// Like [`needs_only_a_service`], for layers that need a clone of the inner service for a further
/// call: `Clone`, but neither `Send`, `Sync` nor `'static`, nor an `Unpin` future.
///
/// # Panics
///
/// When a call does not go through.
pub fn needs_only_a_clonable_service<'a, L>(make: impl FnOnce() -> L, script: &'a Script)
where
    L: Layer<Bare<'a, true>>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    goes_through(make().layer(Bare::new(script)));
}

fn goes_through<S>(service: S)
where
    S: Service<u32, Response = u32, Error = BoxError>,
{
    check_service(
        |_| service,
        |mut bench| {
            let result = bench.clock.finish(&mut start(&mut bench.service, 1));
            assert!(result.is_ok_and(|answer| answer == 2), "law broken: an answer was lost");
        },
    );
}

/// The layer's futures can go to another thread, and are larger than the inner service's by
/// `bytes` at most.
///
/// Only the types are looked at: `make` is not called.
///
/// # Panics
///
/// When they are larger.
pub fn futures_are_send_and_grow_by_at_most<L>(_make: impl Fn() -> L, bytes: usize)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Future: Send>,
{
    is_send_and_at_most::<<L::Service as Service<u32>>::Future>(
        size_of::<ScriptedFuture>().saturating_add(bytes),
    );
}

/// A value can go to another thread, and is no larger than `bytes`.
///
/// # Panics
///
/// When it is larger.
pub fn is_send_and_at_most<T: Send>(bytes: usize) {
    let (name, size) = (std::any::type_name::<T>(), size_of::<T>());
    assert!(size <= bytes, "law broken: {size} bytes, where {bytes} are allowed: {name}");
}
