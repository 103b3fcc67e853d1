//! The balancer under the laws of a tower layer.
#![expect(clippy::unwrap_used, reason = "a test's own figures and helpers")]

use outrigger_loadbalance::{Balance, BalancePolicy, BalanceService, Endpoint, Picker};
use outrigger_testing::{Scripted, laws};
use tower::Layer;

/// A balancer over one endpoint, or over two clones of it.
fn over(picker: Picker, endpoints: usize) -> impl Fn() -> LayerOf {
    move || LayerOf { picker: picker.clone(), endpoints }
}

/// Stands in for a layer: a balancer ends a stack, and takes endpoints in the place of a service.
#[derive(Clone)]
struct LayerOf {
    picker: Picker,
    endpoints: usize,
}

impl Layer<Scripted> for LayerOf {
    type Service = BalanceService<Scripted>;

    fn layer(&self, inner: Scripted) -> Self::Service {
        let policy = BalancePolicy::builder().picker(self.picker.clone()).ejection(None);
        let balance = Balance::new(policy.build().unwrap());
        let endpoint = |n: usize| Endpoint::new(n.to_string(), inner.clone());
        balance.replace((0..self.endpoints).map(endpoint));
        BalanceService::new(balance)
    }
}

/// All laws but that readiness is forwarded: whose it is, is not known before the pick.
#[test]
fn it_keeps_the_laws_with_every_picker() {
    for picker in [
        Picker::WeightedRandom,
        Picker::RoundRobin,
        Picker::SmoothWeightedRoundRobin,
        Picker::least_pending(),
        Picker::peak_ewma(),
        Picker::reported(),
        Picker::consistent_hash(),
        Picker::bounded_consistent_hash(),
        Picker::maglev(),
        Picker::PickFirst { shuffle: true },
    ] {
        for endpoints in [1, 3] {
            let make = over(picker.clone(), endpoints);
            laws::readiness_belongs_to_the_value_that_is_called(&make);
            laws::clones_copy_no_readiness(&make);
            laws::a_ready_clone_that_never_calls_holds_nothing(&make);
            laws::the_users_error_stays(&make);
            laws::no_wake_up_is_lost_or_spun(&make);
            laws::dropping_a_call_at_any_await_point_leaves_nothing_behind(&make);
            laws::a_panic_at_any_await_point_leaves_nothing_behind(&make);
            laws::a_finished_call_that_is_kept_leaves_nothing_behind(&make);
        }
    }
}
