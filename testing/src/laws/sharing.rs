use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::{check, finish, paused, start};
use crate::{Answer, Scripted, ScriptedError, scripted};

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
    check(make, |mut service, script| {
        script.answer(Answer::Error);
        let result = finish(&mut start(&mut service, 1));
        let error = result.expect_err("law broken: an error became a response");
        assert!(error.is::<ScriptedError>(), "law broken: the user's error became {error:?}");
    });
}

/// Two services that one layer makes share what the layer is about: axum and tonic apply a layer
/// for each route or connection.
///
/// `disturb` does something to the first service (opens its circuit, takes its last place) and
/// gives what must stay alive; `is_disturbed` says whether the second service notices.
///
/// # Panics
///
/// When the law is broken, or the first service itself does not notice.
pub fn a_layer_applied_twice_shares_its_state<L, K>(
    make: impl Fn() -> L,
    disturb: impl Fn(&mut L::Service, &crate::Script) -> K,
    is_disturbed: impl Fn(&mut L::Service) -> bool,
) where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    paused(|| {
        let (inner, script) = scripted();
        let layer = make();
        let (mut one, mut other) = (layer.layer(inner.clone()), layer.layer(inner));
        assert!(!is_disturbed(&mut other), "nothing has happened yet");
        let kept = disturb(&mut one, &script);
        assert!(is_disturbed(&mut one), "the first service itself does not notice");
        assert!(
            is_disturbed(&mut other),
            "law broken: two services of one layer have a state each"
        );
        drop(kept);
    });
}

/// A future can go to another thread, and is no larger than `bytes`.
///
/// # Panics
///
/// When it is larger.
pub fn is_send_and_at_most<F: Send>(bytes: usize) {
    let size = size_of::<F>();
    assert!(size <= bytes, "law broken: a future of {size} bytes, where {bytes} are allowed");
}
