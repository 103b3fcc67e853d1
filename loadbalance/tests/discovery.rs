//! Endpoints that come from somewhere, and what happens when it fails.
#![cfg(all(feature = "discover", feature = "dns", feature = "file"))]
#![expect(clippy::unwrap_used, reason = "a test's own figures and helpers")]

#[expect(dead_code, reason = "only a part of it is needed here")]
mod support;

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::stream;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_server::{
    Server,
    proto::rr::{
        LowerName, Name, RData, Record,
        rdata::{A, SOA, SRV},
    },
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneType},
};
use outrigger_loadbalance::{
    Balance, BalanceEvent, BalancePolicy, Discovery, DnsResolver, EndpointInfo, FileResolver,
    Picker, RefusedUpdate, Resolution, ResolveError, Resolver, StaticResolver, follow,
};
use support::Log;
use tower::discover::Change;

fn keys<S>(balance: &Balance<S>) -> Vec<(String, u32)> {
    let endpoints = balance.status().endpoints.into_iter();
    endpoints.map(|endpoint| (endpoint.key, endpoint.weight)).collect()
}

fn infos(of: &[(&str, u32)]) -> Vec<EndpointInfo> {
    of.iter().map(|(key, weight)| EndpointInfo::new(*key).weight(*weight)).collect()
}

fn nothing(_: &EndpointInfo) {}

/// Gives one prepared answer after the other.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<VecDeque<Answer>>>);

#[derive(Clone)]
enum Answer {
    Endpoints(Vec<EndpointInfo>, Option<Duration>),
    Fails,
    NeverComes,
}

impl Resolver for Script {
    fn target(&self) -> &'static str {
        "script"
    }

    async fn resolve(&self) -> Result<Resolution, ResolveError> {
        let next = self.0.lock().unwrap().pop_front();
        match next {
            Some(Answer::Endpoints(endpoints, ttl)) => {
                let resolution = Resolution::from(endpoints);
                Ok(ttl.map_or(resolution.clone(), |ttl| resolution.valid_for(ttl)))
            }
            Some(Answer::Fails) => Err("registry is away".into()),
            Some(Answer::NeverComes) | None => std::future::pending().await,
        }
    }
}

fn script(answers: impl IntoIterator<Item = Answer>) -> Script {
    Script(Arc::new(Mutex::new(answers.into_iter().collect())))
}

#[tokio::test(start_paused = true)]
async fn an_update_that_is_empty_fails_or_is_late_changes_nothing() {
    let log = Log::default();
    let balance = log.attach(Balance::new(BalancePolicy::default()));
    let two = infos(&[("a", 1), ("b", 2)]);
    let answers = [
        Answer::Endpoints(two, None),
        Answer::Endpoints(vec![], None),
        Answer::Fails,
        Answer::NeverComes,
    ];
    let mut discovery = Discovery::new(script(answers), balance.clone(), nothing);
    discovery.refresh().await.unwrap();
    log.take();
    for _ in 0..3 {
        discovery.refresh().await.unwrap_err();
        assert_eq!(keys(&balance), [("a".into(), 1), ("b".into(), 2)]);
    }
    let refused = |cause| ("script".to_owned(), BalanceEvent::UpdateRefused { cause });
    let expected =
        [RefusedUpdate::Empty, RefusedUpdate::Failed, RefusedUpdate::Failed].map(refused);
    assert_eq!(log.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn stale_endpoints_are_kept_only_as_long_as_the_setting_says() {
    let balance = Balance::new(BalancePolicy::default());
    let answers = [
        Answer::Endpoints(infos(&[("a", 1)]), None),
        Answer::Fails,
        Answer::Fails,
        Answer::Endpoints(infos(&[("a", 1)]), None),
    ];
    let mut discovery = Discovery::new(script(answers), balance.clone(), nothing)
        .keep_stale_for(Duration::from_secs(60));
    discovery.refresh().await.unwrap();
    tokio::time::advance(Duration::from_secs(59)).await;
    discovery.refresh().await.unwrap_err();
    assert_eq!(keys(&balance).len(), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    discovery.refresh().await.unwrap_err();
    assert_eq!(keys(&balance).len(), 0);
    discovery.refresh().await.unwrap();
    assert_eq!(keys(&balance).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn answers_are_asked_for_again_when_they_run_out_and_not_before() {
    let balance = Balance::new(BalancePolicy::default());
    let held = |key, ttl| Answer::Endpoints(infos(&[(key, 1)]), Some(Duration::from_secs(ttl)));
    let answers = [held("a", 30), held("b", 0), Answer::Endpoints(infos(&[("c", 1)]), None)];
    let discovery = Discovery::new(script(answers), balance.clone(), nothing);
    let running = tokio::spawn(discovery.run());
    for (wait_ms, expected) in [(10, "a"), (29_900, "a"), (200, "b"), (800, "b"), (200, "c")] {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        assert_eq!(keys(&balance)[0].0, expected);
    }
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn discovery_takes_a_replaced_picker_over() {
    let balance = Balance::new(BalancePolicy::default());
    let resolver = StaticResolver::new(infos(&[("a", 1), ("b", 1)]));
    let running = tokio::spawn(Discovery::new(resolver, balance.clone(), nothing).run());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refuse = Picker::Maglev {
        table_size: 65_537,
        without_key: outrigger_loadbalance::WithoutKey::Refuse,
    };
    balance.policy().replace(BalancePolicy::builder().picker(refuse).build().unwrap());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(balance.pick().unwrap_err().reason(), "no_hash_key");
    running.abort();
}

#[tokio::test]
async fn a_discover_stream_inserts_and_removes_until_it_ends() {
    let balance = Balance::new(BalancePolicy::default());
    let changes =
        [Change::Insert(1, ()), Change::Insert(2, ()), Change::Insert(3, ()), Change::Remove(2)];
    let changes = stream::iter(changes.map(Ok::<_, &str>));
    follow(&balance, changes).await.unwrap();
    assert_eq!(keys(&balance), [("1".into(), 1), ("3".into(), 1)]);

    let failing = stream::iter([Ok(Change::Insert(4, ())), Err("stream broke")]);
    assert_eq!(follow(&balance, failing).await, Err("stream broke"));
    assert_eq!(keys(&balance).len(), 3, "what came before the error counts, and all stay");
}

#[tokio::test]
async fn a_file_is_read_again_and_a_bad_one_changes_nothing() {
    let path = std::env::temp_dir().join(format!("outrigger-endpoints-{}", std::process::id()));
    std::fs::write(&path, "a:1 10\nb:1\n").unwrap();
    let balance = Balance::new(BalancePolicy::default());
    let mut discovery = Discovery::new(FileResolver::new(&path), balance.clone(), nothing);
    discovery.refresh().await.unwrap();
    assert_eq!(keys(&balance), [("a:1".into(), 10), ("b:1".into(), 1)]);

    for bad in ["a:1 ten\n", "", "# nobody\n"] {
        std::fs::write(&path, bad).unwrap();
        discovery.refresh().await.unwrap_err();
        assert_eq!(keys(&balance).len(), 2);
    }
    std::fs::remove_file(&path).unwrap();
    discovery.refresh().await.unwrap_err();
    assert_eq!(keys(&balance).len(), 2);

    std::fs::write(&path, "c:1 5 z\n").unwrap();
    discovery.refresh().await.unwrap();
    assert_eq!(keys(&balance), [("c:1".into(), 5)]);
    std::fs::remove_file(&path).unwrap();
}

// ---- DNS, against a real server on loopback ----

struct Dns {
    zone: Arc<InMemoryZoneHandler>,
    address: SocketAddr,
    _server: Server<Catalog>,
    serial: u32,
}

fn name(name: &str) -> Name {
    Name::from_ascii(name).unwrap()
}

impl Dns {
    async fn start() -> Self {
        let origin = name("shop.test.");
        let zone = Arc::new(InMemoryZoneHandler::empty(
            origin.clone(),
            ZoneType::Primary,
            AxfrPolicy::Deny,
        ));
        let soa = SOA::new(name("ns.shop.test."), name("admin.shop.test."), 1, 60, 60, 60, 1);
        zone.upsert(Record::from_rdata(origin.clone(), 60, RData::SOA(soa)), 1).await;
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::new(&origin), vec![Arc::clone(&zone) as _]);
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut server = Server::new(catalog);
        server.register_socket(socket);
        Self { zone, address, _server: server, serial: 1 }
    }

    async fn add(&mut self, at: &str, ttl: u32, data: RData) {
        self.serial += 1;
        assert!(self.zone.upsert(Record::from_rdata(name(at), ttl, data), self.serial).await);
    }

    async fn clear(&self) {
        self.zone.records_mut().await.retain(|key, _| key.record_type.to_string() == "SOA");
    }

    fn config(&self) -> ResolverConfig {
        let mut udp = ConnectionConfig::udp();
        udp.port = self.address.port();
        let mut server = NameServerConfig::udp(self.address.ip());
        server.connections = vec![udp];
        let mut config = ResolverConfig::default();
        config.name_servers = vec![server];
        config
    }
}

#[tokio::test]
async fn dns_addresses_are_endpoints_for_as_long_as_their_ttl() {
    let mut dns = Dns::start().await;
    for last in [1, 2] {
        let address = RData::A(A(Ipv4Addr::new(10, 0, 0, last)));
        dns.add("host.shop.test.", 1, address).await;
    }
    let resolver = DnsResolver::host("host.shop.test.", 443).unwrap().at(dns.config()).unwrap();
    let balance = Balance::new(BalancePolicy::default());
    let mut discovery = Discovery::new(resolver, balance.clone(), nothing);
    assert!(discovery.refresh().await.unwrap() <= Duration::from_secs(1));
    assert_eq!(keys(&balance), [("10.0.0.1:443".into(), 1), ("10.0.0.2:443".into(), 1)]);

    // The records go away: the answer is an error, and the endpoints stay.
    dns.clear().await;
    while discovery.refresh().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(keys(&balance).len(), 2);
}

#[tokio::test]
async fn dns_services_have_weights_and_the_first_priority_that_has_addresses() {
    let mut dns = Dns::start().await;
    let services =
        [(10, 30, 50_051, "a"), (10, 0, 50_052, "b"), (20, 5, 50_053, "c"), (1, 9, 1, "gone")];
    for (priority, weight, port, host) in services {
        let target = name(&format!("{host}.shop.test."));
        let srv = RData::SRV(SRV::new(priority, weight, port, target));
        dns.add("_grpc._tcp.shop.test.", 30, srv).await;
    }
    for (last, host) in (1..).zip(["a", "b", "c"]) {
        let address = RData::A(A(Ipv4Addr::new(10, 0, 0, last)));
        dns.add(&format!("{host}.shop.test."), 7, address).await;
    }
    let resolver = DnsResolver::srv("_grpc._tcp.shop.test.").unwrap().at(dns.config()).unwrap();
    let answer = resolver.resolve().await.unwrap();
    let expected = infos(&[("10.0.0.1:50051", 30), ("10.0.0.2:50052", 1)]);
    assert_eq!(answer.endpoints, expected);
    assert!(answer.valid_for.unwrap() <= Duration::from_secs(7));
}
