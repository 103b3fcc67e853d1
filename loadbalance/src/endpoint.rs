use std::sync::Arc;

/// Who can be called, without its service: what discovery knows.
///
/// ```
/// use outrigger_loadbalance::EndpointInfo;
///
/// let info = EndpointInfo::new("10.0.0.7:443").weight(20).zone("a");
/// assert_eq!((info.key(), info.weight_value()), ("10.0.0.7:443", 20));
/// assert_eq!(EndpointInfo::new("10.0.0.8:443").weight_value(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointInfo {
    key: Arc<str>,
    weight: u32,
    zone: Option<Arc<str>>,
}

impl EndpointInfo {
    /// An endpoint of weight 1 in no zone. `key` tells it from all others and is what it is hashed
    /// by: mostly its address.
    #[must_use]
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        Self { key: key.into(), weight: 1, zone: None }
    }

    /// Its share of the calls in proportion to the weights of the others. Weight 0 is never picked.
    #[must_use]
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Where it stands: a datacentre, an availability zone.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// What tells it from all others.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its weight.
    #[must_use]
    pub const fn weight_value(&self) -> u32 {
        self.weight
    }

    /// Its zone, if it has one.
    #[must_use]
    pub fn zone_name(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Gives it the service that reaches it.
    pub const fn with_service<S>(self, service: S) -> Endpoint<S> {
        Endpoint { info: self, service }
    }

    pub(crate) const fn shared_key(&self) -> &Arc<str> {
        &self.key
    }

    pub(crate) const fn shared_zone(&self) -> Option<&Arc<str>> {
        self.zone.as_ref()
    }
}

/// Who can be called, with the service that reaches it.
///
/// The service is cloned for each call, under no lock, and whenever endpoints change, while they
/// are locked: its `Clone` must not ask or change the balancer, or it waits for ever.
#[derive(Clone, Debug)]
pub struct Endpoint<S> {
    pub(crate) info: EndpointInfo,
    pub(crate) service: S,
}

impl<S> Endpoint<S> {
    /// An endpoint of weight 1 in no zone. See [`EndpointInfo::new`].
    pub fn new(key: impl Into<Arc<str>>, service: S) -> Self {
        EndpointInfo::new(key).with_service(service)
    }

    /// See [`EndpointInfo::weight`].
    #[must_use]
    pub fn weight(self, weight: u32) -> Self {
        Self { info: self.info.weight(weight), service: self.service }
    }

    /// See [`EndpointInfo::zone`].
    #[must_use]
    pub fn zone(self, zone: impl Into<Arc<str>>) -> Self {
        Self { info: self.info.zone(zone), service: self.service }
    }

    /// All but the service.
    #[must_use]
    pub const fn info(&self) -> &EndpointInfo {
        &self.info
    }
}
