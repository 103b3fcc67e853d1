use std::{collections::HashMap, error::Error, future::Future, time::Duration};

use crate::EndpointInfo;

/// Why a resolver could not say who the endpoints are.
pub type ResolveError = Box<dyn Error + Send + Sync>;

/// Knows who the endpoints of a target are: Kitex's resolver (target, resolve, diff).
///
/// A [`Discovery`](crate::Discovery) asks it again and again and applies what changed.
///
/// ```
/// use outrigger_loadbalance::{EndpointInfo, Resolution, ResolveError, Resolver};
///
/// struct Registry { service: String }
///
/// impl Resolver for Registry {
///     fn target(&self) -> &str {
///         &self.service
///     }
///
///     async fn resolve(&self) -> Result<Resolution, ResolveError> {
///         Ok(Resolution::from(vec![EndpointInfo::new("10.0.0.7:443").weight(10)]))
///     }
/// }
/// ```
pub trait Resolver: Send + Sync {
    /// What is resolved: a service's name, a host, a path. The key of events about updates.
    fn target(&self) -> &str;

    /// Asks who the endpoints are now.
    fn resolve(&self) -> impl Future<Output = Result<Resolution, ResolveError>> + Send;

    /// What changed between two answers; `None` when nothing did that matters.
    ///
    /// By default an endpoint is another one when its key is, and is updated when its weight or
    /// zone is not the same.
    fn diff(&self, before: &[EndpointInfo], now: &[EndpointInfo]) -> Option<Difference> {
        Difference::between(before, now)
    }
}

/// Who the endpoints are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolution {
    /// All of them.
    pub endpoints: Vec<EndpointInfo>,
    /// How long the answer holds, such as a DNS record's TTL; `None` when that is not known.
    pub valid_for: Option<Duration>,
}

impl Resolution {
    /// Says how long the answer holds.
    #[must_use]
    pub const fn valid_for(mut self, time: Duration) -> Self {
        self.valid_for = Some(time);
        self
    }
}

impl From<Vec<EndpointInfo>> for Resolution {
    fn from(endpoints: Vec<EndpointInfo>) -> Self {
        Self { endpoints, valid_for: None }
    }
}

/// What changed between two answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Endpoints that were not there before.
    pub added: Vec<EndpointInfo>,
    /// Endpoints of a new weight or zone.
    pub updated: Vec<EndpointInfo>,
    /// Endpoints that are not there any more.
    pub removed: Vec<EndpointInfo>,
}

impl Difference {
    /// Compares by key; `None` when nothing changed.
    ///
    /// ```
    /// use outrigger_loadbalance::{Difference, EndpointInfo};
    ///
    /// let info = |key: &str, weight| EndpointInfo::new(key).weight(weight);
    /// let before = [info("1", 1), info("2", 1), info("3", 10), info("4", 1)];
    /// let now = [info("1", 1), info("2", 1), info("3", 20), info("5", 1)];
    /// let difference = Difference::between(&before, &now).unwrap();
    /// assert_eq!(difference.added, [info("5", 1)]);
    /// assert_eq!(difference.updated, [info("3", 20)]);
    /// assert_eq!(difference.removed, [info("4", 1)]);
    /// assert_eq!(Difference::between(&now, &now), None);
    /// ```
    #[must_use]
    pub fn between(before: &[EndpointInfo], now: &[EndpointInfo]) -> Option<Self> {
        let mut gone: HashMap<&str, &EndpointInfo> =
            before.iter().map(|info| (info.key(), info)).collect();
        let mut difference = Self::default();
        for info in now {
            match gone.remove(info.key()) {
                None => difference.added.push(info.clone()),
                Some(same) if same == info => {}
                Some(_) => difference.updated.push(info.clone()),
            }
        }
        difference.removed =
            before.iter().filter(|info| gone.contains_key(info.key())).cloned().collect();
        (difference != Self::default()).then_some(difference)
    }
}

/// A fixed list.
#[derive(Clone, Debug)]
pub struct StaticResolver {
    endpoints: Vec<EndpointInfo>,
}

impl StaticResolver {
    /// Always gives these endpoints.
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = EndpointInfo>) -> Self {
        Self { endpoints: endpoints.into_iter().collect() }
    }
}

impl Resolver for StaticResolver {
    fn target(&self) -> &'static str {
        "static"
    }

    async fn resolve(&self) -> Result<Resolution, ResolveError> {
        Ok(Resolution::from(self.endpoints.clone()))
    }
}
