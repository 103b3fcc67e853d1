//! `tail`: what a backup request does to the slowest calls. Source row: H5, and the published
//! figure of Kitex' backup requests: 99 % of the calls within 13 ms, the worst at 60 ms.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use fastrand::Rng;
use outrigger_retry::{BackupDelay, QuantileDelay, RetryLayer, RetryPolicy};
use tokio::time::{Duration, Instant, sleep};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use super::{Latencies, MS, open_load, simulate};
use crate::row::Report;

const PER_SECOND: f64 = 1_000.0;

#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) latencies: Latencies,
    pub(crate) extra: f64,
}

pub(crate) fn policies() -> [(&'static str, RetryPolicy); 3] {
    let backup = |delay: BackupDelay| {
        RetryPolicy::backup(delay).idempotent(true).build().expect("a valid policy")
    };
    [
        ("none", RetryPolicy::off()),
        ("fixed", backup((13 * MS).into())),
        ("quantile", backup(QuantileDelay::of(0.99).into())),
    ]
}

pub(crate) fn play(policy: RetryPolicy, seconds: u64) -> Tail {
    simulate(async move {
        let attempts = Rc::new(Cell::new(0_u32));
        let (counted, rng) = (Rc::clone(&attempts), Rc::new(RefCell::new(Rng::with_seed(13))));
        let server = service_fn(move |()| {
            counted.set(counted.get() + 1);
            let takes = {
                let mut rng = rng.borrow_mut();
                if rng.f64() < 0.99 { 1.0 + 12.0 * rng.f64() } else { 13.0 + 47.0 * rng.f64() }
            };
            async move {
                sleep(Duration::from_secs_f64(takes / 1e3)).await;
                Ok::<_, BoxError>(())
            }
        });
        let service = RetryLayer::new(policy).layer(server);
        let taken = Rc::new(RefCell::new(Vec::new()));
        let calls = Rc::new(Cell::new(0_u32));
        let until = Instant::now() + Duration::from_secs(seconds);
        open_load(PER_SECOND, until, &mut Rng::with_seed(7), |_| {
            let (mut service, taken) = (service.clone(), Rc::clone(&taken));
            calls.set(calls.get() + 1);
            async move {
                let begin = Instant::now();
                service.ready().await.expect("ready").call(()).await.expect("it answers");
                taken.borrow_mut().push(begin.elapsed());
            }
        })
        .await;
        let extra = f64::from(attempts.get()) / f64::from(calls.get()) - 1.0;
        Tail { latencies: Latencies::of(taken.take()), extra }
    })
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = Report::new("tail");
    report.note(
        "Latency by when the backup request is sent: never, after 13 ms, after the live p99.",
    );
    for (name, policy) in policies() {
        let Tail { latencies, extra } = play(policy, if quick { 20 } else { 200 });
        report.line(
            name,
            "outrigger",
            &[
                ("p50_ms", latencies.quantile(0.5), "ms"),
                ("p99_ms", latencies.quantile(0.99), "ms"),
                ("p999_ms", latencies.quantile(0.999), "ms"),
                ("p9999_ms", latencies.quantile(0.9999), "ms"),
                ("max_ms", latencies.quantile(1.0), "ms"),
                ("extra_calls_ratio", extra, "1"),
            ],
        );
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
}
