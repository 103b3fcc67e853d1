//! `zone_loss`: one zone of three is lost. Source row: R17.

use std::{cell::RefCell, rc::Rc, time::Duration};

use fastrand::Rng;
use outrigger_loadbalance::{
    Balance, BalancePolicy, BalancePolicyBuilder, BalanceService, EjectionPolicy, Endpoint, Picker,
    ZonePolicy,
};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use super::{
    Latencies, MS,
    instance::{Health, Instance},
    open_load, share, simulate,
};
use crate::row::Report;

const ZONES: [&str; 3] = ["a", "b", "c"];
/// In each zone.
const HOSTS: usize = 10;
/// Of all three clients.
const PER_SECOND: f64 = 1_800.0;

/// What is gone in each part of a run: so many hosts of zones a and b.
const PARTS: [(&str, usize, usize); 4] = [
    ("all well", 0, 0),
    ("half of zone a gone", 5, 0),
    ("zone a gone", 10, 0),
    ("zone a and half of b gone", 10, 5),
];

/// How a client in a zone sees the others.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sees {
    /// Only its own.
    OwnZone,
    /// All, without preference; nothing is watched.
    AllAlike,
    /// Its own, and the others for what its own cannot take; ejection by default.
    Prefers,
    /// The same, where two thirds of the hosts may be ejected.
    PrefersEjectsMore,
}

const SIGHTS: [(&str, Sees); 4] = [
    ("own zone only", Sees::OwnZone),
    ("all alike, no ejection", Sees::AllAlike),
    ("own zone preferred", Sees::Prefers),
    ("own zone preferred, ejects up to 70 %", Sees::PrefersEjectsMore),
];

fn policy(sees: Sees, zone: &str) -> BalancePolicyBuilder {
    let plain = BalancePolicy::builder().picker(Picker::RoundRobin);
    let plain = plain.ejection(None).failover_picks(0);
    let prefers = BalancePolicy::builder().zones(ZonePolicy::prefer(zone));
    match sees {
        Sees::OwnZone | Sees::AllAlike => plain,
        Sees::Prefers => prefers,
        Sees::PrefersEjectsMore => {
            let ejection = EjectionPolicy::builder().max_ejected(0.7).panic_threshold(0.3);
            prefers.ejection(ejection.build().expect("a valid policy"))
        }
    }
}

/// What happened in a part.
#[derive(Debug)]
struct Part {
    /// Of all calls of the part.
    errors: f64,
    /// Of the second half, when all has settled.
    errors_later: f64,
    p99_ms: f64,
    other_zone: f64,
    /// What the host with most calls got, of what each that is left would get.
    max_over_share: f64,
}

#[derive(Debug, Default)]
struct Calls {
    all: u64,
    failed: u64,
    took: Vec<Duration>,
}

struct World {
    hosts: Vec<Vec<Instance>>,
    clients: Vec<BalanceService<Instance>>,
}

fn world(sees: Sees) -> World {
    let rng = Rc::new(RefCell::new(Rng::with_seed(3)));
    let zone = |_| (0..HOSTS).map(|_| Instance::new(2, 10 * MS, &rng)).collect();
    let hosts: Vec<Vec<Instance>> = ZONES.iter().map(zone).collect();
    let client = |(seed, own): (u64, &&str)| {
        let policy = policy(sees, own).seed(seed).build().expect("a valid policy");
        let balance = Balance::new(policy);
        let zones = ZONES.iter().zip(&hosts);
        let known = zones.filter(|(zone, _)| sees != Sees::OwnZone || *zone == own);
        balance.replace(known.flat_map(|(zone, hosts)| {
            hosts.iter().enumerate().map(move |(number, host)| {
                Endpoint::new(format!("{zone}{number}"), host.clone()).zone(*zone)
            })
        }));
        BalanceService::new(balance)
    };
    let clients = (1..).zip(&ZONES).map(client).collect();
    World { hosts, clients }
}

fn play(sees: Sees, seconds: u64) -> Vec<Part> {
    simulate(async move {
        let world = world(sees);
        let mut parts = Vec::new();
        for (seed, (_, of_a, of_b)) in (0_u64..).zip(PARTS) {
            for (hosts, gone) in world.hosts.iter().zip([of_a, of_b]) {
                hosts[..gone].iter().for_each(|host| host.set(Health::Gone));
            }
            let early = half(&world, seconds, 2 * seed).await;
            for host in world.hosts.iter().flatten() {
                let _early = host.take_asked();
            }
            let late = half(&world, seconds, 2 * seed + 1).await;
            parts.push(part(&world, (of_a + of_b) as u64, &early, late));
            sleep(1_000 * MS).await;
        }
        parts
    })
}

async fn half(world: &World, seconds: u64, seed: u64) -> [Calls; 3] {
    let calls = Rc::new(RefCell::new(<[Calls; 3]>::default()));
    let until = Instant::now() + Duration::from_secs(seconds) / 2;
    open_load(PER_SECOND, until, &mut Rng::with_seed(seed), |rng| {
        let zone = rng.usize(..ZONES.len());
        let (client, calls) = (world.clients[zone].clone(), Rc::clone(&calls));
        async move {
            let begin = Instant::now();
            let is_served = client.oneshot(()).await.is_ok();
            let calls = &mut calls.borrow_mut()[zone];
            calls.all += 1;
            calls.failed += u64::from(!is_served);
            if is_served {
                calls.took.push(begin.elapsed());
            }
        }
    })
    .await;
    calls.take()
}

fn part(world: &World, gone: u64, early: &[Calls; 3], late: [Calls; 3]) -> Part {
    let sum = |calls: &[Calls; 3], of: fn(&Calls) -> u64| calls.iter().map(of).sum::<u64>();
    let (all, failed) = (sum(&late, |calls| calls.all), sum(&late, |calls| calls.failed));
    let errors =
        share(failed + sum(early, |calls| calls.failed), all + sum(early, |calls| calls.all));
    let asked: Vec<Vec<u64>> =
        world.hosts.iter().map(|hosts| hosts.iter().map(Instance::take_asked).collect()).collect();
    let answered: u64 = asked.iter().flatten().sum();
    // What a zone's hosts got beyond what its own client sent came from another zone.
    let came = asked.iter().zip(&late).map(|(asked, sent)| {
        let got: u64 = asked.iter().sum();
        got.saturating_sub(sent.all)
    });
    let most = asked.iter().flatten().max().copied().unwrap_or(0);
    let left = (ZONES.len() * HOSTS) as u64 - gone;
    let other_zone = share(came.sum(), all);
    Part {
        errors,
        errors_later: share(failed, all),
        p99_ms: Latencies::of(late.into_iter().flat_map(|calls| calls.took).collect())
            .quantile(0.99),
        other_zone,
        max_over_share: share(most * left, answered),
    }
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = super::report("zone_loss");
    for (sight, sees) in SIGHTS {
        for ((name, ..), part) in PARTS.iter().zip(play(sees, if quick { 4 } else { 30 })) {
            report.line(
                &format!("{sight}: {name}"),
                "outrigger",
                &[
                    ("errors", part.errors, "1"),
                    ("errors_later", part.errors_later, "1"),
                    ("p99_ms", part.p99_ms, "ms"),
                    ("to_other_zones", part.other_zone, "1"),
                    ("busiest_host_of_its_share", part.max_over_share, "1"),
                ],
            );
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_stay_in_their_zone_until_it_is_lost_and_then_go_on_elsewhere() {
        let parts = play(Sees::PrefersEjectsMore, 20);
        let [well, half, lost, more] = &parts[..] else { panic!("{parts:?}") };
        assert!(well.other_zone <= 0.05 && well.errors <= 0.0, "{well:?}");
        assert!(half.max_over_share <= 1.4, "83 % are healthy: {half:?}");
        for part in [half, lost, more] {
            assert!(part.errors <= 0.01 && part.errors_later <= 0.001, "{part:?}");
        }
        let without = play(Sees::OwnZone, 10);
        assert!(without[2].errors > 0.3, "{without:?}");
    }
}
