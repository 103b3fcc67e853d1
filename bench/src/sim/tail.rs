//! `tail`: what a backup request does to the slowest calls. Source row: H5, and the published
//! figure of Kitex' backup requests: 99 % of the calls within 13 ms, the worst at 60 ms.

mod published;

use std::{
    cell::{Cell, RefCell},
    f64::consts::TAU,
    rc::Rc,
};

use fastrand::Rng;
use outrigger_retry::{BackupDelay, QuantileDelay, RetryBudget, RetryLayer, RetryPolicy};
use tokio::{
    task::spawn_local,
    time::{Duration, Instant, sleep},
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use super::{Latencies, MS, open_load, simulate};
use crate::row::Report;

const PER_SECOND: f64 = 1_000.0;

#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) latencies: Latencies,
    pub(crate) extra: f64,
}

/// How long a server takes.
#[derive(Clone, Copy, Debug)]
enum Takes {
    /// 99 % at most 13 ms, the slowest 60 ms.
    Kitex,
    /// Lognormal, mean 5 ms, deviation 2 ms; 5 % ten times as long.
    Lognormal,
    /// 5 to 15 ms, 1 % about a second.
    Leaf,
}

impl Takes {
    fn draw(self, rng: &mut Rng) -> Duration {
        let ms = match self {
            Self::Kitex if rng.f64() < 0.99 => 1.0 + 12.0 * rng.f64(),
            Self::Kitex => 13.0 + 47.0 * rng.f64(),
            Self::Lognormal => {
                let variance = (1.0 + 2.0_f64.powi(2) / 5.0_f64.powi(2)).ln();
                let normal = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (TAU * rng.f64()).cos();
                let ms = (5.0_f64.ln() - variance / 2.0 + variance.sqrt() * normal).exp();
                if rng.f64() < 0.05 { 10.0 * ms } else { ms }
            }
            Self::Leaf if rng.f64() < 0.99 => 5.0 + 10.0 * rng.f64(),
            Self::Leaf => 900.0 + 200.0 * rng.f64(),
        };
        Duration::from_secs_f64(ms / 1e3)
    }
}

/// So many times slower are the workloads of H5: tokio's timers have steps of 1 ms, and a live
/// quantile of 14.5 ms is then one of 15.
const SLOWER: u32 = 10;

pub(crate) fn policies() -> [(&'static str, RetryPolicy); 3] {
    [
        ("none", RetryPolicy::off()),
        ("fixed", backup(13 * MS)),
        ("quantile", backup(QuantileDelay::of(0.99))),
    ]
}

fn backup(delay: impl Into<BackupDelay>) -> RetryPolicy {
    RetryPolicy::backup(delay).idempotent(true).build().expect("a valid policy")
}

/// A server that takes so many times so long, and how often it was asked.
fn server(
    takes: Takes,
    slower: u32,
) -> (Rc<Cell<u32>>, impl Service<(), Response = (), Error = BoxError, Future: 'static> + Clone) {
    let attempts = Rc::new(Cell::new(0_u32));
    let (counted, rng) = (Rc::clone(&attempts), Rc::new(RefCell::new(Rng::with_seed(13))));
    let server = service_fn(move |()| {
        counted.set(counted.get() + 1);
        let takes = slower * takes.draw(&mut rng.borrow_mut());
        async move {
            sleep(takes).await;
            Ok::<_, BoxError>(())
        }
    });
    (attempts, server)
}

/// A thousand calls a second.
pub(crate) fn play(policy: RetryPolicy, seconds: u64) -> Tail {
    simulate(async move {
        let (attempts, server) = server(Takes::Kitex, 1);
        let service = RetryLayer::new(policy).layer(server);
        let taken = Rc::new(RefCell::new(Vec::new()));
        let calls = Rc::new(Cell::new(0_u32));
        let until = Instant::now() + Duration::from_secs(seconds);
        open_load(PER_SECOND, until, &mut Rng::with_seed(7), |_| {
            let (service, taken) = (service.clone(), Rc::clone(&taken));
            calls.set(calls.get() + 1);
            async move {
                let begin = Instant::now();
                service.oneshot(()).await.expect("it answers");
                taken.borrow_mut().push(begin.elapsed());
            }
        })
        .await;
        let extra = f64::from(attempts.get()) / f64::from(calls.get()) - 1.0;
        Tail { latencies: Latencies::of(taken.take()), extra }
    })
}

/// So many calls in flight at all times, each of which waits for `fan_out` answers.
#[derive(Clone, Copy, Debug)]
struct Closed {
    takes: Takes,
    fan_out: u32,
    calls: u32,
    in_flight: u32,
}

impl Closed {
    fn play(self, policy: RetryPolicy, budget: RetryBudget) -> Tail {
        simulate(async move {
            let (attempts, server) = server(self.takes, SLOWER);
            let service = RetryLayer::new(policy).budget(budget).layer(server);
            let taken = Rc::new(RefCell::new(Vec::new()));
            let callers = (0..self.in_flight).map(|_| {
                let (service, taken) = (service.clone(), Rc::clone(&taken));
                spawn_local(async move {
                    for _ in 0..self.calls / self.in_flight {
                        let begin = Instant::now();
                        let leaves: Vec<_> = (0..self.fan_out)
                            .map(|_| spawn_local(service.clone().oneshot(())))
                            .collect();
                        for leaf in leaves {
                            leaf.await.expect("no panic").expect("it answers");
                        }
                        taken.borrow_mut().push(begin.elapsed() / SLOWER);
                    }
                })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await.expect("no panic");
            }
            let sent = f64::from(self.calls / self.in_flight * self.in_flight * self.fan_out);
            let extra = f64::from(attempts.get()) / sent - 1.0;
            Tail { latencies: Latencies::of(taken.take()), extra }
        })
    }
}

fn line(report: &mut Report, name: &str, tail: &Tail, published: [f64; 4]) {
    let Tail { latencies, extra } = tail;
    let [p99, p999, slow, published_extra] = published;
    report.line(
        name,
        "outrigger",
        &[
            ("p50_ms", latencies.quantile(0.5), "ms"),
            ("p99_ms", latencies.quantile(0.99), "ms"),
            ("p999_ms", latencies.quantile(0.999), "ms"),
            ("p9999_ms", latencies.quantile(0.9999), "ms"),
            ("max_ms", latencies.quantile(1.0), "ms"),
            ("extra_calls_ratio", *extra, "1"),
            ("above_500_ms", latencies.share_above(500 * MS), "1"),
            ("published_p99_ms", p99, "ms"),
            ("published_p999_ms", p999, "ms"),
            ("published_extra", published_extra, "1"),
            ("published_above_500_ms", slow, "1"),
        ],
    );
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = super::report("tail");
    for (name, policy) in policies() {
        let tail = play(policy, if quick { 10 } else { 200 });
        let published = if name == "none" { 13.0 } else { f64::NAN };
        line(&mut report, name, &tail, [published, f64::NAN, f64::NAN, f64::NAN]);
    }
    for row in published::rows() {
        let calls = row.load.calls / if quick { 20 } else { 1 };
        let tail = Closed { calls, ..row.load }.play(row.policy, row.budget);
        line(&mut report, row.name, &tail, row.published);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_a_thousand_is_at_most_twice_the_p99_for_one_call_in_a_hundred() {
        for (name, policy) in policies() {
            let Tail { latencies, extra } = play(policy, 60);
            let p999 = latencies.quantile(0.999);
            if name == "none" {
                assert!(p999 > 50.0, "the tail is there");
            } else {
                assert!(p999 <= 2.0 * 13.0 + 2.0 && extra <= 0.013, "{name}: {p999}, {extra}");
            }
        }
    }

    #[test]
    fn backups_within_a_budget_keep_a_slow_twentieth_and_fan_outs_of_a_hundred_fast() {
        for row in published::rows() {
            let calls = row.load.calls / 5;
            let Tail { latencies, extra } =
                Closed { calls, ..row.load }.play(row.policy, row.budget);
            match row.name {
                "lognormal: live p90, budget 10 %" => {
                    let p99 = latencies.quantile(0.99);
                    assert!(p99 <= 18.5 && extra <= 0.105, "{p99} ms, {extra}");
                }
                "lognormal: none" => assert!(latencies.quantile(0.99) > 50.0),
                "fan-out 100: none" => assert!(latencies.share_above(500 * MS) > 0.5),
                "fan-out 100: after 20 ms" => {
                    let slow = latencies.share_above(500 * MS);
                    assert!(slow <= 0.02 && extra <= 0.011, "{slow}, {extra}");
                }
                _ => {}
            }
        }
    }
}
