use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::bench::check_service;
use crate::{Script, Scripted};

/// Two services that one layer makes share what the layer is about: axum and tonic apply a layer
/// for each route or connection.
///
/// `disturb` does something to the first service (opens its circuit, takes its last place) and
/// gives what must stay alive; `is_disturbed` says whether a service notices.
///
/// # Panics
///
/// When the law is broken, or the first service itself does not notice.
pub fn a_layer_applied_twice_shares_its_state<L, K>(
    make: impl Fn() -> L,
    disturb: impl Fn(&mut L::Service, &Script) -> K,
    is_disturbed: impl Fn(&mut L::Service) -> bool,
) where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    let layer = make();
    let is_noticed = is_noticed_by_the_other([&layer, &layer], disturb, is_disturbed);
    assert!(is_noticed, "law broken: two services of one layer have a state each");
}

/// Services of two layers that are meant to be separate have a state each. Give it what the layer
/// documents as the way to ask for that, and the closures of
/// [`a_layer_applied_twice_shares_its_state`].
///
/// # Panics
///
/// When the law is broken, or the first service itself does not notice.
pub fn separate_layers_share_nothing<L, K>(
    make: impl Fn() -> [L; 2],
    disturb: impl Fn(&mut L::Service, &Script) -> K,
    is_disturbed: impl Fn(&mut L::Service) -> bool,
) where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    let [one, other] = make();
    let is_noticed = is_noticed_by_the_other([&one, &other], disturb, is_disturbed);
    assert!(!is_noticed, "law broken: separate layers share a state");
}

fn is_noticed_by_the_other<L, K>(
    [one, other]: [&L; 2],
    disturb: impl Fn(&mut L::Service, &Script) -> K,
    is_disturbed: impl Fn(&mut L::Service) -> bool,
) -> bool
where
    L: Layer<Scripted>,
{
    let make = |script| {
        let inner = Scripted::new(script);
        (one.layer(inner.clone()), other.layer(inner))
    };
    check_service(make, |bench| {
        let (mut one, mut other) = bench.service;
        assert!(!is_disturbed(&mut other), "nothing has happened yet");
        let kept = disturb(&mut one, &bench.script);
        assert!(is_disturbed(&mut one), "the first service itself does not notice");
        let is_noticed = is_disturbed(&mut other);
        drop(kept);
        is_noticed
    })
}
