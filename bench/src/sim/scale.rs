//! `scale`: a thousand clients and ten thousand instances on one machine.

use std::{cell::RefCell, fs, rc::Rc, sync::Arc};

use fastrand::Rng;
use outrigger_loadbalance::{
    Balance, BalancePolicy, BalanceService, Endpoint, Picker, SubsetPolicy,
};
use outrigger_retry::{
    Backoff, RetryBudget, RetryBudgetPolicy, RetryLayer, RetryPolicy, TimeoutLayer,
};
use tokio::{
    task::spawn_local,
    time::{Duration, Instant, sleep, sleep_until},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

use super::{
    Latencies, MACHINE, MS, exponential,
    instance::{Health, Instance},
    share, simulate,
};
use crate::{kit::Clock, row::Report};

/// How many there are.
#[derive(Clone, Copy, Debug)]
struct Fleet {
    clients: u32,
    instances: usize,
    /// Instances that a client uses.
    subset: usize,
    seconds: u64,
}

const FULL: Fleet = Fleet { clients: 1_000, instances: 10_000, subset: 100, seconds: 60 };
const QUICK: Fleet = Fleet { clients: 50, instances: 500, subset: 20, seconds: 12 };
/// Of each client.
const PER_SECOND: f64 = 20.0;

#[derive(Debug, Default)]
struct Seen {
    calls: u64,
    failed: u64,
    /// Of the third of the run in which a hundredth of the instances fails.
    calls_ill: u64,
    failed_ill: u64,
    took: Vec<Duration>,
}

fn client(
    number: u32,
    fleet: Fleet,
    instances: &[(Arc<str>, Instance)],
    is_governed: bool,
) -> impl Service<u64, Response = (), Error = BoxError, Future: 'static> + Clone + 'static {
    let subset = SubsetPolicy::by_index(number, fleet.subset);
    let policy = BalancePolicy::builder().subset(subset).seed(u64::from(number));
    let policy =
        if is_governed { policy } else { policy.picker(Picker::WeightedRandom).ejection(None) };
    let balance = Balance::new(policy.build().expect("a valid policy"));
    let endpoint =
        |(key, instance): &(Arc<str>, Instance)| Endpoint::new(Arc::clone(key), instance.clone());
    balance.replace(instances.iter().map(endpoint));
    let retry = if is_governed {
        RetryPolicy::failure().idempotent(true).backoff(Backoff::None).build()
    } else {
        Ok(RetryPolicy::off())
    };
    let budget = RetryBudget::new(RetryBudgetPolicy::default());
    let retry = RetryLayer::new(retry.expect("a valid policy")).budget(budget);
    ServiceBuilder::new()
        .layer(retry.seed(u64::from(number)))
        .layer(TimeoutLayer::after(1_000 * MS))
        .service(BalanceService::new(balance))
}

fn play(fleet: Fleet, is_governed: bool) -> Seen {
    simulate(async move {
        let rng = Rc::new(RefCell::new(Rng::with_seed(1)));
        let instances: Vec<(Arc<str>, Instance)> = (0..fleet.instances)
            .map(|n| (format!("10.0.{n}:443").into(), Instance::new(2, 10 * MS, &rng)))
            .collect();
        let seen = Rc::new(RefCell::new(Seen::default()));
        let clients: Vec<_> = (0..fleet.clients)
            .map(|number| client(number, fleet, &instances, is_governed))
            .collect();
        let begin = Instant::now();
        let third = Duration::from_secs(fleet.seconds) / 3;
        let ill: Vec<_> =
            instances.iter().step_by(100).map(|(_, instance)| instance.clone()).collect();
        spawn_local(async move {
            for (at, health) in [(1, Health::Fails), (2, Health::Well)] {
                sleep_until(begin + at * third).await;
                for instance in &ill {
                    instance.set(health);
                }
            }
        });
        let callers = clients.into_iter().zip(0_u64..).map(|(client, seed)| {
            spawn_local(call(client, seed, (begin, third), Rc::clone(&seen)))
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.expect("no panic");
        }
        // The last answers.
        sleep(2_000 * MS).await;
        seen.take()
    })
}

/// A client's calls, at random times.
async fn call<S>(client: S, seed: u64, (begin, third): (Instant, Duration), book: Rc<RefCell<Seen>>)
where
    S: Service<u64, Response = (), Error = BoxError, Future: 'static> + Clone + 'static,
{
    let mut rng = Rng::with_seed(seed);
    let mut at = begin;
    loop {
        at += exponential(&mut rng, 1.0 / PER_SECOND);
        if at >= begin + 3 * third {
            break;
        }
        sleep_until(at).await;
        let (client, book) = (client.clone(), Rc::clone(&book));
        spawn_local(async move {
            let is_failed = client.oneshot(seed).await.is_err();
            let mut noted = book.borrow_mut();
            let is_ill = (begin + third..begin + 2 * third).contains(&at);
            noted.calls += 1;
            noted.failed += u64::from(is_failed);
            noted.calls_ill += u64::from(is_ill);
            noted.failed_ill += u64::from(is_ill && is_failed);
            noted.took.push(at.elapsed());
        });
    }
}

/// The most memory that this process had since the last [`forget_peak`], in MB.
fn peak_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kb.map_or(f64::NAN, |kb| kb / 1e3)
}

/// Lets the peak begin anew, where Linux lets it.
fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

pub(crate) fn run(quick: bool) -> Report {
    let fleet = if quick { QUICK } else { FULL };
    let mut report = super::report("scale");
    for (name, is_governed) in [
        ("weighted random, no retry", false),
        ("budgeted retry, time-out, peak EWMA, ejection", true),
    ] {
        forget_peak();
        let begin = Clock::now();
        let seen = play(fleet, is_governed);
        let (wall, peak) = (begin.elapsed().as_secs_f64(), peak_mb());
        let calls = share(seen.calls, 1);
        let latencies = Latencies::of(seen.took);
        report.line(
            name,
            "outrigger",
            &[
                ("calls", calls, "calls"),
                ("errors", share(seen.failed, seen.calls), "1"),
                ("errors_while_1_percent_fails", share(seen.failed_ill, seen.calls_ill), "1"),
                ("p50_ms", latencies.quantile(0.5), "ms"),
                ("p99_ms", latencies.quantile(0.99), "ms"),
            ],
        );
        let needed = [
            ("wall_s", wall, "s"),
            ("peak_rss_mb", peak, "MB"),
            ("calls_per_wall_s", calls / wall, "calls/s"),
        ];
        report.line(name, MACHINE, &needed);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundredth_of_failing_instances_is_not_seen_by_any_client() {
        let fleet = Fleet { clients: 20, instances: 200, subset: 20, seconds: 12 };
        let [without, with] = [false, true].map(|is_governed| play(fleet, is_governed));
        assert_eq!(with.calls, without.calls);
        assert!(share(without.failed_ill, without.calls_ill) > 0.005, "{}", without.failed_ill);
        assert!(share(with.failed_ill, with.calls_ill) <= 0.0005, "{}", with.failed_ill);
    }
}
