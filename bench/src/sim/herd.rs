//! `herd`: a server comes back, and all who waited for it ask at once. How many calls does it get,
//! and how many probes does a breaker let through? Source row: R4.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use fastrand::Rng;
use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerLayer, CircuitBreakerPolicy, State};
use tokio::{
    task::spawn_local,
    time::{Duration, Instant, sleep},
};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

use super::{MS, simulate};
use crate::row::Report;

const BACK_AFTER: u32 = 20;
const SECONDS: u32 = 40;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Breakers {
    None,
    /// One for all clients.
    Shared,
    /// One in each client.
    Each,
}

/// Clients of so many calls a second, and a server that is down from `down_from` to 20 s.
#[derive(Clone, Copy, Debug)]
struct Herd {
    clients: u32,
    every: Duration,
    takes: Duration,
    down_from: u32,
    breakers: Breakers,
    jitter: f64,
    probes: u32,
    cool_down: Duration,
}

impl Herd {
    /// 10 000 clients of two calls a second.
    const fn large(clients: u32, breakers: Breakers) -> Self {
        let every = Duration::from_millis(500);
        let takes = Duration::from_millis(5);
        let cool_down = Duration::from_secs(5);
        Self { clients, every, takes, down_from: 0, breakers, jitter: 0.5, probes: 1, cool_down }
    }

    /// R4: 200 clients whose breakers open together, 10 probes, 5 s.
    const fn together(clients: u32, jitter: f64) -> Self {
        let every = Duration::from_millis(10);
        let takes = Duration::from_millis(200);
        let (down_from, probes) = (10, 10);
        Self { every, takes, down_from, jitter, probes, ..Self::large(clients, Breakers::Each) }
    }

    fn policy(&self) -> CircuitBreakerPolicy {
        let policy = CircuitBreakerPolicy::builder().error_rate(0.5, 5).cool_down(self.cool_down);
        let policy = policy
            .cool_down_jitter(self.jitter)
            .max_probes(self.probes)
            .successes_to_close(self.probes);
        policy.probe_interval(Duration::ZERO).build().expect("a valid policy")
    }
}

pub(crate) struct Seen {
    /// The most calls in a tenth of a second, in the last five seconds before it came back and
    /// after.
    down: u32,
    back: u32,
    /// The most probes in a tenth of a second, and under way at one breaker.
    probes: u32,
    probes_at_once: u32,
    /// When all clients call as before, in seconds after it came back.
    whole_after_s: f64,
}

/// What happens at the server.
#[derive(Debug)]
struct Book {
    begin: Instant,
    calls: RefCell<Vec<u32>>,
    probes: RefCell<Vec<u32>>,
    good: RefCell<Vec<u32>>,
    probes_at_once: Cell<u32>,
}

impl Book {
    fn count(&self, tenths: &RefCell<Vec<u32>>) {
        let tenth = usize::try_from(self.begin.elapsed().as_millis() / 100).unwrap_or(usize::MAX);
        if let Some(count) = tenths.borrow_mut().get_mut(tenth) {
            *count += 1;
        }
    }

    fn seen(&self, herd: &Herd) -> Seen {
        let most = |tenths: &RefCell<Vec<u32>>, range: std::ops::Range<usize>| {
            tenths.borrow()[range].iter().copied().max().unwrap_or(0)
        };
        let per_second = f64::from(herd.clients) / herd.every.as_secs_f64();
        let good = self.good.borrow();
        let mut seconds = good[10 * BACK_AFTER as usize..].chunks(10).map(|tenths| {
            let good: u32 = tenths.iter().sum();
            f64::from(good)
        });
        let whole = seconds.position(|good| good >= 0.95 * per_second);
        let whole = whole.and_then(|seconds| u32::try_from(seconds).ok());
        Seen {
            down: most(&self.calls, 150..200),
            back: most(&self.calls, 200..400),
            probes: most(&self.probes, 0..400),
            probes_at_once: self.probes_at_once.get(),
            whole_after_s: whole.map_or(f64::NAN, f64::from),
        }
    }
}

fn play(herd: Herd) -> Seen {
    simulate(async move {
        let begin = Instant::now();
        let tenths = || RefCell::new(vec![0_u32; 10 * SECONDS as usize]);
        let book = Rc::new(Book {
            begin,
            calls: tenths(),
            probes: tenths(),
            good: tenths(),
            probes_at_once: Cell::new(0),
        });
        // Another seed than that of the client's pace.
        let breaker = |seed: u64| CircuitBreaker::builder(herd.policy()).seed(!seed).build();
        let shared = breaker(0);
        let clients = (0..herd.clients).map(|number| {
            let seed = u64::from(number);
            let breaker = match herd.breakers {
                Breakers::None => None,
                Breakers::Shared => Some(shared.clone()),
                Breakers::Each => Some(breaker(seed)),
            };
            spawn_local(client(herd, seed, breaker, Rc::clone(&book)))
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("no panic");
        }
        book.seen(&herd)
    })
}

/// Calls at its pace, whatever comes of it.
async fn client(herd: Herd, seed: u64, breaker: Option<CircuitBreaker>, book: Rc<Book>) {
    let under_way = Rc::new(Cell::new(0_u32));
    let (at_server, half_open) = (Rc::clone(&book), breaker.clone());
    let begin = book.begin;
    let server = service_fn(move |()| {
        let is_half_open = |breaker: &CircuitBreaker| breaker.state() == State::HalfOpen;
        let is_probe = half_open.as_ref().is_some_and(is_half_open);
        at_server.count(&at_server.calls);
        if is_probe {
            at_server.count(&at_server.probes);
            under_way.set(under_way.get() + 1);
            let most = at_server.probes_at_once.get().max(under_way.get());
            at_server.probes_at_once.set(most);
        }
        let under_way = Rc::clone(&under_way);
        async move {
            sleep(herd.takes).await;
            under_way.set(under_way.get() - u32::from(is_probe));
            let is_down = herd.down_from..BACK_AFTER;
            let second = u32::try_from(begin.elapsed().as_secs()).unwrap_or(u32::MAX);
            if is_down.contains(&second) { Err(BoxError::from("down")) } else { Ok(()) }
        }
    });
    let layer = breaker.map(CircuitBreakerLayer::from_handle);
    let service = ServiceBuilder::new().option_layer(layer).service(server);
    sleep(herd.every.mul_f64(Rng::with_seed(seed).f64())).await;
    while begin.elapsed() < Duration::from_secs(SECONDS.into()) {
        let (service, book) = (service.clone(), Rc::clone(&book));
        spawn_local(async move {
            if service.oneshot(()).await.is_ok() {
                book.count(&book.good);
            }
        });
        sleep(herd.every).await;
    }
    // The last answers.
    sleep(500 * MS).await;
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = super::report("herd");
    let (many, few) = if quick { (500, 20) } else { (10_000, 200) };
    let no = f64::NAN;
    let fleet = f64::from(few);
    let mark = 0.1 * fleet * 10.0;
    for (name, herd, allowed, published) in [
        ("10 000 clients, no breaker", Herd::large(many, Breakers::None), no, no),
        ("10 000 clients, one breaker for all", Herd::large(many, Breakers::Shared), 1.0, no),
        ("10 000 clients, a breaker each", Herd::large(many, Breakers::Each), 1.0, no),
        ("200 clients, a breaker each, no jitter", Herd::together(few, 0.0), 10.0, no),
        ("200 clients, a breaker each", Herd::together(few, 0.5), 10.0, mark),
    ] {
        let seen = play(herd);
        let has_probes = herd.breakers != Breakers::None;
        let known = |count: u32| if has_probes { f64::from(count) } else { no };
        report.line(
            name,
            "outrigger",
            &[
                ("most_calls_in_100_ms_down", f64::from(seen.down), "calls"),
                ("most_calls_in_100_ms_back", f64::from(seen.back), "calls"),
                ("most_probes_in_100_ms", known(seen.probes), "calls"),
                ("most_probes_at_one_breaker", known(seen.probes_at_once), "calls"),
                ("all_served_after_s", seen.whole_after_s, "s"),
                ("allowed_at_one_breaker", allowed, "calls"),
                ("published_most_probes", published, "calls"),
            ],
        );
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_down_is_left_in_peace_and_nobody_comes_back_all_at_once() {
        let with = play(Herd::large(300, Breakers::Each));
        let without = play(Herd::large(300, Breakers::None));
        assert!(with.down * 3 < without.down, "{} of {}", with.down, without.down);
        assert!(f64::from(with.back) <= 1.5 * f64::from(without.back), "{}", with.back);
        assert!(with.whole_after_s <= 12.0, "{}", with.whole_after_s);
    }

    #[test]
    fn exactly_the_allowed_probes_pass_and_jitter_spreads_them() {
        let shared = play(Herd::large(300, Breakers::Shared));
        assert_eq!(shared.probes_at_once, 1);
        assert!(shared.whole_after_s <= 9.0, "{}", shared.whole_after_s);
        let [plain, jittered] = [0.0, 0.5].map(|jitter| play(Herd::together(40, jitter)));
        assert_eq!((plain.probes_at_once, jittered.probes_at_once), (10, 10));
        assert!(plain.probes >= 350, "{}", plain.probes);
        assert!(jittered.probes <= 80, "{} of 400", jittered.probes);
    }
}
