use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Watched, family::Families, watch::Watches, words::enforcement};
use crate::{Label, Meter, Metric, ObserveLayer, meter::SharedMeter, names};

/// Turns what the governing layers tell into metrics: give it to each layer as its observer.
///
/// Clones are handles to the same series. What layers do not tell, such as how much of a limit is
/// in use, is looked at by [`sample`](Self::sample) once it is watched.
///
/// ```
/// # #[cfg(all(feature = "circuitbreak", feature = "metrics"))] {
/// use metrics_exporter_prometheus::PrometheusBuilder;
/// use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerPolicy};
/// use outrigger_observability::{FacadeMeter, GovernanceMetrics};
///
/// let recorder = PrometheusBuilder::new().with_recommended_naming(true).build_recorder();
/// let scrape = recorder.handle();
/// let metrics = GovernanceMetrics::new(FacadeMeter::with_recorder(recorder));
///
/// let breaker = CircuitBreaker::builder(CircuitBreakerPolicy::default())
///     .name("orders")
///     .observe(metrics.clone())
///     .build();
/// breaker.force_open();
/// breaker.try_acquire().unwrap_err();
///
/// let text = scrape.render();
/// assert!(text.contains(
///     r#"outrigger_circuit_breaker_state{outrigger_key="orders",outrigger_state="forced_open"} 1"#
/// ));
/// assert!(text.contains("outrigger_rejections_total"));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GovernanceMetrics {
    pub(super) shared: Arc<Shared>,
    /// Stands where an event names nobody.
    pub(super) name: Option<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) families: Families,
    watches: Watches,
    #[cfg(feature = "circuitbreak")]
    pub(super) generations: super::circuitbreak::Generations,
    #[cfg(feature = "retry")]
    pub(super) usual: super::usual::Usual,
}

impl GovernanceMetrics {
    /// Records with the instruments of `meter`, at most 1000 series for each metric.
    #[must_use]
    pub fn new(meter: impl Meter + 'static) -> Self {
        Self::with_max_series(meter, ObserveLayer::DEFAULT_MAX_SERIES)
    }

    /// Records with the instruments of `meter`. Keys and endpoints beyond the cap count into series
    /// with `_other` in their place and `otel.metric.overflow`. At least 60 are taken.
    #[must_use]
    pub fn with_max_series(meter: impl Meter + 'static, most: NonZeroUsize) -> Self {
        let max_series = most.get().max(60);
        let shared = Shared {
            families: Families::new(SharedMeter(Arc::new(meter)), max_series),
            watches: Watches::default(),
            #[cfg(feature = "circuitbreak")]
            generations: super::circuitbreak::Generations::new(max_series),
            #[cfg(feature = "retry")]
            usual: super::usual::Usual::new(max_series),
        };
        Self { shared: Arc::new(shared), name: None }
    }

    /// A handle to the same series for what has no name of its own: a time-out, or a balancer,
    /// whose events name endpoints.
    #[must_use]
    pub fn named(&self, name: impl Into<Arc<str>>) -> Self {
        Self { shared: Arc::clone(&self.shared), name: Some(name.into()) }
    }

    /// Counts that a policy was replaced, or that a new one was refused.
    pub fn policy_reloaded(&self, key: &str, applied: bool) {
        let result = if applied { "applied" } else { "refused" };
        let labels = [(names::KEY, key), (names::RESULT, result)];
        self.shared.families.count(names::POLICY_RELOADS, &labels, 1);
    }

    /// Counts each replacement of a policy, as [`sample`](Self::sample) sees it.
    pub fn watch_policy<P>(&self, key: &str, policy: &outrigger_core::Live<P>) -> Watched
    where
        P: Send + Sync + 'static,
    {
        let (key, policy) = (key.to_owned(), policy.clone());
        let seen = Mutex::new(policy.version());
        self.watch(move |families| {
            let version = policy.version();
            let before = {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::replace(&mut *seen, version)
            };
            let labels = [(names::KEY, &*key), (names::RESULT, "applied")];
            families.count(names::POLICY_RELOADS, &labels, version.saturating_sub(before));
        })
    }

    /// Looks at all that is watched. Call it before each scrape, or let [`run`](Self::run) do it.
    pub fn sample(&self) {
        self.shared.watches.look(&self.shared.families);
    }

    /// Looks again and again, until it is dropped.
    pub async fn run(self, every: Duration) {
        loop {
            self.sample();
            tokio::time::sleep(every).await;
        }
    }

    pub(super) fn watch(&self, look: impl Fn(&Families) + Send + Sync + 'static) -> Watched {
        self.shared.watches.add(look)
    }

    /// The key that an event is filed under.
    pub(super) fn key<'a>(&'a self, told: &'a str) -> &'a str {
        if told.is_empty() { self.name.as_deref().unwrap_or_default() } else { told }
    }

    /// Counts that a layer refused a call, or in shadow would have: also for layers of your own.
    pub fn rejected(&self, layer: &'static str, key: &str, reason: &'static str, shadow: bool) {
        let labels = [
            (names::LAYER, layer),
            (names::KEY, self.key(key)),
            (names::REASON, reason),
            (names::ENFORCEMENT, enforcement(shadow)),
        ];
        self.shared.families.count(names::REJECTIONS, &labels, 1);
    }

    /// Adds to a counter, under the cap on series. Labels without a value are left out.
    ///
    /// For observers of your own; so are [`set`](Self::set) and [`record`](Self::record).
    pub fn count(&self, metric: &'static Metric, labels: &[Label<'_>], more: u64) {
        self.shared.families.count(metric, labels, more);
    }

    /// Sets a gauge, under the cap on series.
    pub fn set(&self, metric: &'static Metric, labels: &[Label<'_>], value: f64) {
        self.shared.families.set(metric, labels, value);
    }

    /// Records into a histogram, under the cap on series.
    pub fn record(&self, metric: &'static Metric, labels: &[Label<'_>], value: f64) {
        self.shared.families.record(metric, labels, value);
    }
}
