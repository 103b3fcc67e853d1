//! How a fleet of clients calls the server: the stacks of H1's table.

use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerLayer, CircuitBreakerPolicy};
use outrigger_core::{AttemptContext, CarryContext};
use outrigger_ratelimit::{
    AdaptiveLimitLayer, AdaptiveLimitPolicy, ClientThrottle, ClientThrottleLayer,
    ClientThrottlePolicy, ConcurrencyLimitLayer, ConcurrencyLimitPolicy,
};
use outrigger_retry::{
    Backoff, RetryBudget, RetryBudgetPolicy, RetryLayer, RetryPolicy, TimeoutLayer,
};
use tokio::{
    task::spawn_local,
    time::{Duration, Instant},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

use super::Book;
use crate::sim::{MS, Workers};

/// What stands before the server.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// A queue without end.
    Queue,
    /// A limit with, at most, a queue of its own.
    Limit { running: u32, max_waiting: u32, max_wait: Duration },
    /// A queue without end; who has given up is not served.
    DropsExpired { workers: u32 },
    /// A limit that finds by itself how many may run.
    Adaptive,
}

/// What stands in a client besides its retries.
#[derive(Clone, Copy, Debug)]
enum Guard {
    None,
    Breaker,
    Throttle { k: f64 },
}

/// How a fleet of clients calls the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fleet {
    pub(crate) name: &'static str,
    clients: usize,
    retries: u32,
    backoff: Backoff,
    budget: Option<RetryBudgetPolicy>,
    guard: Guard,
    server: Server,
    /// H1's figures: answered a second during the brown-out, from 60 to 70 s and from 100 to
    /// 115 s; attempts per call; seconds to recovery, where it is ever.
    pub(crate) published: [f64; 5],
}

const NEVER: f64 = f64::NAN;
const UNKNOWN: [f64; 5] = [f64::NAN; 5];

impl Fleet {
    /// One client that sends again at once.
    pub(super) const fn plain(name: &'static str, retries: u32) -> Self {
        Self {
            name,
            clients: 1,
            retries,
            backoff: Backoff::None,
            budget: None,
            guard: Guard::None,
            server: Server::Queue,
            published: UNKNOWN,
        }
    }

    /// The default budget, and a limit of twice as many calls as the server has workers.
    pub(super) fn governed(name: &'static str, retries: u32, workers: usize) -> Self {
        let limit = u32::try_from(2 * workers).unwrap_or(u32::MAX);
        Self::plain(name, retries).budget(RetryBudgetPolicy::default()).limit(limit)
    }

    const fn clients(self, clients: usize) -> Self {
        Self { clients, ..self }
    }

    const fn budget(self, budget: RetryBudgetPolicy) -> Self {
        Self { budget: Some(budget), ..self }
    }

    const fn guard(self, guard: Guard) -> Self {
        Self { guard, ..self }
    }

    const fn server(self, server: Server) -> Self {
        Self { server, ..self }
    }

    const fn limit(self, running: u32) -> Self {
        self.server(Server::Limit { running, max_waiting: 0, max_wait: MS })
    }

    const fn published(self, published: [f64; 5]) -> Self {
        Self { published, ..self }
    }
}

/// All rows of H1, then those of it which are ours.
pub(super) fn fleets(workers: usize) -> Vec<Fleet> {
    let ours = |name, clients| Fleet::governed(name, 3, workers).clients(clients);
    let adaptive = ours("budget 10 % and adaptive limit, 100 clients", 100);
    let own = [
        ours("budget 10 % and concurrency limit 20, 100 clients", 100),
        ours("budget 10 % and concurrency limit 20, 1 000 clients", 1_000),
        adaptive.server(Server::Adaptive),
    ];
    clients_alone().into_iter().chain(with_server(workers)).chain(own).collect()
}

fn four(name: &'static str) -> Fleet {
    Fleet::plain(name, 3)
}

fn budget(ratio: f64, reserve: u64) -> RetryBudgetPolicy {
    let builder = RetryBudgetPolicy::builder().ratio(ratio).reserve(reserve);
    builder.window(Duration::from_secs(10)).build().expect("a valid policy")
}

/// H1's rows in which the server has a queue without end.
fn clients_alone() -> Vec<Fleet> {
    let jittered = Fleet {
        backoff: Backoff::exponential(100 * MS, 1_000 * MS),
        ..four("4 attempts, full jitter 0.1 to 1 s")
    };
    let grpc = RetryBudgetPolicy::throttling(10, 0.1).expect("a valid policy");
    vec![
        Fleet::plain("1 attempt", 0).published([16.0, 697.0, 692.0, 1.0, 16.0]),
        four("4 attempts at once").published([16.0, 0.0, 0.0, 3.81, NEVER]),
        jittered.published([16.0, 0.0, 0.0, 3.79, NEVER]),
        four("gRPC throttle 10/0.1").budget(grpc).published([16.0, 697.0, 692.0, 1.0, 16.0]),
        four("gRPC throttle 10/0.1, 500 clients")
            .clients(500)
            .budget(grpc)
            .published([15.0, 586.0, 697.0, 1.14, 22.5]),
        four("budget 20 %, 10/s at least")
            .budget(budget(0.2, 100))
            .published([16.0, 0.0, 693.0, 1.22, 44.0]),
        four("budget 20 %, 10/s at least, 100 clients")
            .clients(100)
            .budget(budget(0.2, 100))
            .published([14.0, 0.0, 0.0, 2.62, NEVER]),
        four("budget 20 %, 100 clients")
            .clients(100)
            .budget(budget(0.2, 0))
            .published([14.0, 0.0, 707.0, 1.21, 39.5]),
        four("budget 10 %").budget(budget(0.1, 0)).published([16.0, 383.0, 693.0, 1.1, 25.0]),
        four("breaker 50 %/20 calls/10 s")
            .guard(Guard::Breaker)
            .published([16.0, 699.0, 695.0, 0.5, 10.0]),
        four("SRE throttle K = 2")
            .guard(Guard::Throttle { k: 2.0 })
            .published([14.0, 0.0, 269.0, 0.82, NEVER]),
    ]
}

/// H1's rows in which the server helps itself.
fn with_server(workers: usize) -> Vec<Fleet> {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX);
    let queue = |max_waiting, max_wait| Server::Limit { running: workers, max_waiting, max_wait };
    let second = 1_000 * MS;
    let (two, tight) = (Guard::Throttle { k: 2.0 }, Guard::Throttle { k: 1.1 });
    let expired = Server::DropsExpired { workers };
    vec![
        four("server drops expired work")
            .server(expired)
            .published([17.0, 56.0, 57.0, 3.76, NEVER]),
        four("SRE throttle K = 2 and concurrency limit 20")
            .guard(two)
            .limit(20)
            .published([200.0, 705.0, 699.0, 1.16, 8.5]),
        four("SRE throttle K = 1.1 and concurrency limit 20")
            .guard(tight)
            .limit(20)
            .published([197.0, 256.0, 599.0, 0.6, NEVER]),
        four("server queue of 100")
            .server(queue(100, 1_000 * second))
            .published([67.0, 698.0, 693.0, 2.4, 0.0]),
        four("queue time of at most 20 ms")
            .server(queue(1_000_000, 20 * MS))
            .published([204.0, 698.0, 693.0, 2.11, 0.0]),
        four("concurrency limit 20").limit(20).published([204.0, 697.0, 692.0, 2.25, 0.0]),
        four("budget 10 % and server drops expired work")
            .budget(budget(0.1, 0))
            .server(expired)
            .published([23.0, 697.0, 693.0, 1.05, 0.0]),
        four("budget 10 % and concurrency limit 20")
            .budget(budget(0.1, 0))
            .limit(20)
            .published([204.0, 697.0, 692.0, 1.05, 0.0]),
    ]
}

/// Reads what a call says of itself from the call, which is nothing else.
#[derive(Clone, Copy, Debug)]
struct Itself;

impl CarryContext<AttemptContext> for Itself {
    fn context<'a>(&self, call: &'a AttemptContext) -> Option<&'a AttemptContext> {
        Some(call)
    }

    fn set_context(&self, call: &mut AttemptContext, context: AttemptContext) {
        *call = context;
    }
}

fn server(
    kind: Server,
    workers: &Workers,
) -> impl Service<AttemptContext, Response = (), Error = BoxError, Future: 'static> + Clone + 'static
{
    let fixed = |limit: u32, waiting: u32, wait: Duration| {
        let policy = ConcurrencyLimitPolicy::builder().limit(limit);
        let policy = policy.max_waiting(waiting).max_wait(wait).build();
        ConcurrencyLimitLayer::new(policy.expect("a valid policy")).context(Itself)
    };
    let unending = 1_000_000 * MS;
    let limit = match kind {
        Server::Queue | Server::Adaptive => None,
        Server::Limit { running, max_waiting, max_wait } => {
            Some(fixed(running, max_waiting, max_wait))
        }
        Server::DropsExpired { workers } => Some(fixed(workers, 1_000_000, unending)),
    };
    let adaptive = AdaptiveLimitLayer::new(AdaptiveLimitPolicy::default()).context(Itself);
    let adaptive = matches!(kind, Server::Adaptive).then_some(adaptive);
    let workers = workers.clone();
    ServiceBuilder::new()
        .option_layer(limit)
        .option_layer(adaptive)
        .service(service_fn(move |_call: AttemptContext| workers.work()))
}

fn breaker() -> CircuitBreakerPolicy {
    let policy = CircuitBreakerPolicy::builder().error_rate(0.5, 20);
    let policy = policy.time_window(Duration::from_secs(10)).cool_down(Duration::from_secs(5));
    let policy = policy.cool_down_growth(1.0, Duration::from_secs(5)).cool_down_jitter(0.0);
    let policy = policy.probe_interval(Duration::ZERO).max_probes(10).successes_to_close(10);
    policy.build().expect("a valid policy")
}

fn throttle(k: f64) -> ClientThrottlePolicy {
    let policy = ClientThrottlePolicy::builder().k(k).window(Duration::from_secs(10));
    policy.build().expect("a valid policy")
}

fn retries(fleet: Fleet) -> RetryPolicy {
    match fleet.retries {
        0 => RetryPolicy::off(),
        retries => RetryPolicy::failure()
            .idempotent(true)
            .retries(retries)
            .backoff(fleet.backoff)
            .build()
            .expect("a valid policy"),
    }
}

pub(super) fn clients(
    fleet: Fleet,
    timeout: Duration,
    workers: &Workers,
    book: &Book,
) -> Vec<impl Service<(), Response = (), Error = BoxError, Future: 'static> + Clone + 'static> {
    let server = server(fleet.server, workers);
    let client = |number: usize| {
        let seed = number as u64;
        let (server, book) = (server.clone(), book.clone());
        let attempts = service_fn(move |()| {
            book.note(|second| second.attempts += 1);
            let mut call = AttemptContext::default();
            call.deadline = Some(Instant::now() + timeout);
            // The server does not see that a caller gives up, and says no more than that it is
            // busy.
            let answer = spawn_local(server.clone().oneshot(call));
            async move { answer.await?.map_err(|_| BoxError::from("busy")) }
        });
        let breaker = matches!(fleet.guard, Guard::Breaker).then(|| {
            let breaker = CircuitBreaker::builder(breaker()).seed(seed).build();
            CircuitBreakerLayer::from_handle(breaker)
        });
        let throttle = match fleet.guard {
            Guard::Throttle { k } => {
                let throttle = ClientThrottle::builder(throttle(k)).seed(seed).build();
                Some(ClientThrottleLayer::from_handle(throttle))
            }
            _ => None,
        };
        let budget = fleet.budget.map_or_else(RetryBudget::unlimited, RetryBudget::new);
        ServiceBuilder::new()
            .layer(RetryLayer::new(retries(fleet)).budget(budget).seed(seed))
            .option_layer(breaker)
            .option_layer(throttle)
            .layer(TimeoutLayer::after(timeout))
            .service(attempts)
    };
    (0..fleet.clients).map(client).collect()
}
