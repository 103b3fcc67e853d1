//! `grey`: one host of ten is slow, fails fast, or fails three calls of ten. Source rows: H9, R7
//! to R9.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use outrigger_loadbalance::{
    BalanceEvent, BalancePolicy, BalancePolicyBuilder, EjectionPolicy, Picker,
};

use super::{
    hosts::{Call, HOSTS, Serves, Simulation, balance, quantile, share},
    simulate,
};
use crate::row::Report;

/// When the host is ill, in seconds.
const ILL: std::ops::Range<f64> = 15.0..45.0;
const END: f64 = 75.0;

type Make = fn() -> BalancePolicyBuilder;

fn round_robin() -> BalancePolicyBuilder {
    BalancePolicy::builder().picker(Picker::RoundRobin).ejection(None)
}

fn random_by_latency() -> BalancePolicyBuilder {
    let ejection = EjectionPolicy::builder().latency(3.0).build().expect("a valid policy");
    BalancePolicy::builder().picker(Picker::WeightedRandom).ejection(ejection)
}

/// Each with what H9 has for a slow host with 1 and 20 balancers (p99 and p99.9, ms), the share of
/// the slow host with 1, and the errors with a host that fails fast.
struct Row {
    name: &'static str,
    policy: Make,
    slow: [[f64; 2]; 2],
    slow_share: f64,
    fast_errors: f64,
}

fn rows() -> [Row; 5] {
    let (no, none) = (f64::NAN, [f64::NAN; 2]);
    let row = |name, policy, slow, slow_share, fast_errors| Row {
        name,
        policy,
        slow,
        slow_share,
        fast_errors,
    };
    [
        row("round robin", round_robin, [[22_800.0, 24_000.0], none], 0.1, 0.1),
        row(
            "weighted random, ejection",
            || BalancePolicy::builder().picker(Picker::WeightedRandom),
            [none; 2],
            no,
            no,
        ),
        row("weighted random, ejection by latency", random_by_latency, [none; 2], no, no),
        row(
            "least pending, ejection",
            || BalancePolicy::builder().picker(Picker::least_pending()),
            [[115.0, 388.0], [988.0, 1_452.0]],
            0.0195,
            0.17,
        ),
        row(
            "peak EWMA, ejection (default)",
            BalancePolicy::builder,
            [[49.5, 103.0], [59.0, 188.0]],
            0.0024,
            0.195,
        ),
    ]
}

/// What is wrong with host 0.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ill {
    Slow,
    FailsFast,
    FailsSome,
}

impl Ill {
    /// Calls a second: half, or seven tenths, of what the hosts can do.
    const fn rate(self) -> f64 {
        if matches!(self, Self::Slow) { 1_000.0 } else { 1_400.0 }
    }
}

/// The calls, and how often a healthy host was ejected.
fn play(policy: Make, ill: Ill, balancers: u64) -> (Vec<Call>, u32) {
    simulate(async move {
        let number = Cell::new(0_u32);
        let serves = |host: usize, now: f64| match ill {
            _ if host != 0 || !ILL.contains(&now) => Serves::Within(0.01),
            Ill::Slow => Serves::Within(0.1),
            Ill::FailsFast => Serves::FailsIn(0.001),
            Ill::FailsSome => {
                number.set(number.get() + 1);
                if number.get() % 10 < 3 { Serves::FailsIn(0.01) } else { Serves::Within(0.01) }
            }
        };
        let wrongly = Arc::new(AtomicU32::new(0));
        let balancers = (1..=balancers).map(|seed| watch(balance(policy(), seed), &wrongly));
        let balancers = balancers.collect();
        let simulation =
            Simulation { balancers, workers: 2, rate: ill.rate(), until: END, seed: 2 };
        let calls = simulation.run(HOSTS, serves, &[]).await;
        (calls, wrongly.load(Ordering::Relaxed))
    })
}

type Balance = outrigger_loadbalance::Balance<usize>;

fn watch(balance: Balance, wrongly: &Arc<AtomicU32>) -> Balance {
    let wrongly = Arc::clone(wrongly);
    balance.observe(move |key: &str, event: &BalanceEvent| {
        let is_wrong = matches!(event, BalanceEvent::Ejected { .. }) && key != "host-0";
        wrongly.fetch_add(u32::from(is_wrong), Ordering::Relaxed);
    })
}

fn during(calls: &[Call], from: f64) -> Vec<Call> {
    calls.iter().copied().filter(|call| (from..ILL.end).contains(&call.at)).collect()
}

fn errors(calls: &[Call]) -> f64 {
    super::share(calls.iter().filter(|call| call.failed).count() as u64, calls.len() as u64)
}

fn line(report: &mut Report, row: &Row, (illness, ill): (&str, Ill), balancers: u64) {
    let (calls, wrongly) = play(row.policy, ill, balancers);
    let ill_time = during(&calls, ILL.start);
    let of = |q| quantile(ill_time.iter().copied(), q) * 1e3;
    let no = f64::NAN;
    let is_one = balancers == 1;
    let [p99, p999] = if ill == Ill::Slow { row.slow[usize::from(!is_one)] } else { [no; 2] };
    let published_share = if ill == Ill::Slow && is_one { row.slow_share } else { no };
    let fast_errors = if ill == Ill::FailsFast && is_one { row.fast_errors } else { no };
    let callers = if is_one { "1 balancer" } else { "20 balancers" };
    report.line(
        &format!("{illness}, {callers}: {}", row.name),
        "outrigger",
        &[
            ("p99_ms", of(0.99), "ms"),
            ("p999_ms", of(0.999), "ms"),
            ("errors", errors(&ill_time), "1"),
            ("errors_after_10_s", errors(&during(&calls, ILL.start + 10.0)), "1"),
            ("share_of_ill_host", share(&calls, 0, ILL.start, ILL.end), "1"),
            ("share_15_s_after", share(&calls, 0, 60.0, END), "1"),
            ("healthy_ejected", f64::from(wrongly), "times"),
            ("published_p99_ms", p99, "ms"),
            ("published_p999_ms", p999, "ms"),
            ("published_share", published_share, "1"),
            ("published_errors", fast_errors, "1"),
        ],
    );
}

/// How often ten healthy hosts are ejected in an hour in which one call of a hundred fails.
fn healthy_hour(minutes: f64) -> (u32, f64) {
    simulate(async move {
        let rng = std::cell::RefCell::new(fastrand::Rng::with_seed(8));
        let serves = |_: usize, _: f64| {
            let fails = rng.borrow_mut().f64() < 0.01;
            if fails { Serves::FailsIn(0.01) } else { Serves::Within(0.01) }
        };
        let ejected = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&ejected);
        let balance = balance(BalancePolicy::builder(), 1);
        let balance = balance.observe(move |_: &str, event: &BalanceEvent| {
            let is_ejection = matches!(event, BalanceEvent::Ejected { .. });
            counted.fetch_add(u32::from(is_ejection), Ordering::Relaxed);
        });
        let until = 60.0 * minutes;
        let simulation =
            Simulation { balancers: vec![balance], workers: 2, rate: 500.0, until, seed: 4 };
        let calls = simulation.run(HOSTS, serves, &[]).await;
        (ejected.load(Ordering::Relaxed), errors(&calls))
    })
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = super::report("grey");
    let illnesses =
        [("slow", Ill::Slow), ("fails in 1 ms", Ill::FailsFast), ("fails 30 %", Ill::FailsSome)];
    let callers: &[u64] = if quick { &[1] } else { &[1, 20] };
    for illness in illnesses {
        for &balancers in callers {
            for row in rows().into_iter().step_by(if quick { 4 } else { 1 }) {
                line(&mut report, &row, illness, balancers);
            }
        }
    }
    let (ejected, errors) = healthy_hour(if quick { 2.0 } else { 60.0 });
    let metrics = [("errors", errors, "1"), ("healthy_ejected", f64::from(ejected), "times")];
    report.line("all well for an hour, 1 % errors: default", "outrigger", &metrics);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p99(calls: &[Call]) -> f64 {
        quantile(during(calls, ILL.start).into_iter(), 0.99)
    }

    #[test]
    fn a_slow_host_holds_nobody_up_and_is_back_in_time() {
        let (calls, wrongly) = play(BalancePolicy::builder, Ill::Slow, 1);
        assert!(p99(&calls) <= 0.060 && wrongly == 0, "{}, {wrongly}", p99(&calls));
        assert!(share(&calls, 0, ILL.start, ILL.end) < 0.02);
        assert!(share(&calls, 0, 60.0, END) >= 0.08);
        assert!(p99(&play(round_robin, Ill::Slow, 1).0) > 1.0);
    }

    #[test]
    fn a_host_that_fails_gets_no_calls_after_an_interval() {
        for (ill, most) in [(Ill::FailsFast, 0.001), (Ill::FailsSome, 0.001)] {
            let (calls, wrongly) = play(BalancePolicy::builder, ill, 1);
            let errors = errors(&during(&calls, ILL.start + 10.0));
            assert!(errors <= most && wrongly == 0, "{ill:?}: {errors}, {wrongly}");
        }
        let (calls, _) = play(round_robin, Ill::FailsFast, 1);
        assert!(errors(&during(&calls, ILL.start)) > 0.09);
    }

    #[test]
    fn latency_ejects_where_the_picker_does_not_look() {
        let (calls, wrongly) = play(random_by_latency, Ill::Slow, 1);
        let late = during(&calls, ILL.start + 20.0);
        assert!(quantile(late.into_iter(), 0.99) <= 0.080 && wrongly == 0, "{wrongly}");
    }
}
