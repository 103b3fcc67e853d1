use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::ResolverConfig,
    net::runtime::TokioRuntimeProvider,
    proto::rr::{RData, Record},
};

use super::{Resolution, ResolveError, Resolver};
use crate::EndpointInfo;

/// Asks DNS: addresses of a host with a port of the user's ([`host`](Self::host)), or SRV records
/// ([`srv`](Self::srv)). Answers hold for the shortest TTL among their records.
///
/// Of SRV records, those of the lowest priority number are used; others only when the targets of
/// all before have no address. Their weights are the endpoints' weights, 0 counting as 1: in RFC
/// 2782 it is a small chance, not none. Keys are `address:port`.
#[derive(Clone)]
pub struct DnsResolver {
    name: String,
    /// With which port addresses are taken; `None` for SRV records.
    port: Option<u16>,
    resolver: TokioResolver,
}

impl DnsResolver {
    /// The A and AAAA records of `name`, asked at the servers that the system is set up with.
    ///
    /// # Errors
    ///
    /// When the system's settings cannot be read.
    pub fn host(name: impl Into<String>, port: u16) -> Result<Self, ResolveError> {
        Self::of_system(name.into(), Some(port))
    }

    /// The SRV records of `name`, such as `_grpc._tcp.shop.example.`, asked at the servers that
    /// the system is set up with.
    ///
    /// # Errors
    ///
    /// When the system's settings cannot be read.
    pub fn srv(name: impl Into<String>) -> Result<Self, ResolveError> {
        Self::of_system(name.into(), None)
    }

    fn of_system(name: String, port: Option<u16>) -> Result<Self, ResolveError> {
        let resolver = TokioResolver::builder_tokio()?.build()?;
        Ok(Self { name, port, resolver })
    }

    /// Asks at the servers that `config` names instead.
    ///
    /// # Errors
    ///
    /// When no resolver can be made of the settings.
    pub fn at(self, config: ResolverConfig) -> Result<Self, ResolveError> {
        let provider = TokioRuntimeProvider::default();
        let resolver = TokioResolver::builder_with_config(config, provider).build()?;
        Ok(Self { resolver, ..self })
    }

    async fn addresses(&self, name: &str) -> Result<(Vec<IpAddr>, Duration), ResolveError> {
        let found = self.resolver.lookup_ip(name).await?;
        Ok((found.iter().collect(), shortest_ttl(found.as_lookup().answers())))
    }

    async fn of_host(&self, port: u16) -> Result<Resolution, ResolveError> {
        let (addresses, ttl) = self.addresses(&self.name).await?;
        let info = |address| EndpointInfo::new(SocketAddr::new(address, port).to_string());
        Ok(Resolution::from(addresses.into_iter().map(info).collect::<Vec<_>>()).valid_for(ttl))
    }

    async fn of_srv(&self) -> Result<Resolution, ResolveError> {
        let found = self.resolver.srv_lookup(self.name.as_str()).await?;
        let mut ttl = shortest_ttl(found.answers());
        let mut services: Vec<_> = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(srv),
                _ => None,
            })
            .collect();
        services.sort_by_key(|srv| srv.priority);
        let mut last_error = None;
        for group in services.chunk_by(|a, b| a.priority == b.priority) {
            let mut endpoints: Vec<EndpointInfo> = Vec::new();
            for srv in group {
                match self.addresses(&srv.target.to_string()).await {
                    Ok((addresses, target_ttl)) => {
                        ttl = ttl.min(target_ttl);
                        let weight = u32::from(srv.weight).max(1);
                        endpoints.extend(addresses.into_iter().map(|address| {
                            let key = SocketAddr::new(address, srv.port).to_string();
                            EndpointInfo::new(key).weight(weight)
                        }));
                    }
                    Err(error) => last_error = Some(error),
                }
            }
            if !endpoints.is_empty() {
                endpoints.sort_by(|a, b| a.key().cmp(b.key()));
                endpoints.dedup_by(|a, b| a.key() == b.key());
                return Ok(Resolution::from(endpoints).valid_for(ttl));
            }
        }
        last_error.map_or_else(|| Ok(Resolution::default()), Err)
    }
}

fn shortest_ttl(records: &[Record]) -> Duration {
    let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
    Duration::from_secs(u64::from(ttl))
}

impl Resolver for DnsResolver {
    fn target(&self) -> &str {
        &self.name
    }

    async fn resolve(&self) -> Result<Resolution, ResolveError> {
        match self.port {
            Some(port) => self.of_host(port).await,
            None => self.of_srv().await,
        }
    }
}

impl fmt::Debug for DnsResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsResolver")
            .field("name", &self.name)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
