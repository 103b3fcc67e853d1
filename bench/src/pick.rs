//! `pick`: what it costs to pick an endpoint and to build what picks, by the number of endpoints;
//! how evenly keys are spread, and how many move when an endpoint leaves or joins.

mod subjects;

use std::{collections::HashMap, hint::black_box, sync::Arc, time::Duration};

use self::subjects::Subject;
use crate::{
    kit::{Case, Clock, Plain, Single, float, measure, mixed, nanos, runtime},
    overhead::tower_layers::pending,
    row::Report,
};

/// Picks one of the endpoints that it was made of.
trait Choose: Send + Sync {
    /// The endpoint for a key; those who know no keys pick by chance.
    fn choose(&self, key: u64) -> u32;

    /// Finds whose a key is, and no more.
    fn look_up(&self, key: u64) {
        black_box(self.choose(key));
    }

    /// Those for many keys whose calls are all under way at once.
    fn choose_all(&self, keys: u64) -> Vec<u32> {
        (0..keys).map(|key| self.choose(mixed(key))).collect()
    }
}

type Chooser = Arc<dyn Choose>;

/// The system of cases of ours that look a key up.
const LOOK_UP: &str = "look-up";

pub(crate) fn run(quick: bool) -> Report {
    let mut report = Report::new("pick");
    report.note(
        "ns_per_pick: ours counts the call as well and gives a service out, as no_pick does,",
    );
    report
        .note("which draws a number and looks nothing up; lookup_ns: whose a key is, and no more.");
    report.note("The peers look up and no more; tower has no pick alone, so it is a whole call.");
    report.note("memory: what is held, of ours with the endpoints and their statistics.");
    report.note("max_over_mean: of 1 M keys; moved: keys that change owner when one endpoint of");
    report.note("n leaves or joins; it cannot be less than 1/n, or 1/(n+1).");
    let sizes: &[u32] = if quick { &[10, 1_000] } else { &[10, 100, 1_000, 10_000, 100_000] };
    for &endpoints in sizes {
        of_size(&mut report, endpoints, quick);
    }
    report
}

/// An index with what it took to make it.
struct Built {
    subject: &'static Subject,
    chooser: Chooser,
    build_ms: f64,
    kilobytes: f64,
}

fn build(subject: &'static Subject, endpoints: u32) -> Built {
    let hosts: Vec<u32> = (0..endpoints).collect();
    let mut chooser = None;
    let began = Clock::now();
    let info = allocation_counter::measure(|| chooser = Some((subject.make)(&hosts)));
    let build_ms = nanos(began.elapsed()) / 1e6;
    let held = u64::try_from(info.bytes_current).unwrap_or(0);
    let chooser = chooser.expect("made just now");
    Built { subject, chooser, build_ms, kilobytes: float(held) / 1e3 }
}

fn is_ours_by_key(subject: &Subject) -> bool {
    subject.by_key && subject.system == "outrigger"
}

fn of_size(report: &mut Report, endpoints: u32, quick: bool) {
    let built: Vec<Built> = subjects::ALL
        .iter()
        .filter(|subject| endpoints <= subject.most_endpoints)
        .map(|subject| build(subject, endpoints))
        .collect();
    let runtime = runtime();
    let case = |built: &Built| {
        let chooser = Arc::clone(&built.chooser);
        let mut number = 0;
        // Keys are met once each: what a few of them have in the cache says little.
        let pick = Plain(move |_| {
            number += 1;
            black_box(chooser.choose(mixed(number)));
        });
        Case::new(built.subject.name, built.subject.system, pick)
    };
    let case_of_lookup = |built: &Built| {
        let chooser = Arc::clone(&built.chooser);
        let mut number = 0;
        let calls = Plain(move |_| {
            number += 1;
            chooser.look_up(mixed(number));
        });
        Case::new(built.subject.name, LOOK_UP, calls)
    };
    let mut cases: Vec<Case> = built.iter().map(case).collect();
    cases.extend(built.iter().filter(|built| is_ours_by_key(built.subject)).map(case_of_lookup));
    let inside = runtime.enter();
    cases.push(Case::new("p2c", "tower", Single(pending(endpoints as usize))));
    drop(inside);
    let turns = (if quick { 15 } else { 101 }, Duration::from_micros(300));
    measure(&mut cases, &runtime, turns, || ());
    let medians: HashMap<_, f64> =
        cases.iter_mut().map(|case| ((case.name, case.system), case.spread().median)).collect();
    for Built { subject, chooser, build_ms, kilobytes } in &built {
        let pick = medians[&(subject.name, subject.system)];
        let lookup = match subject.system {
            "outrigger" => medians.get(&(subject.name, LOOK_UP)).copied().unwrap_or(f64::NAN),
            _ => pick,
        };
        let [spread, leaves, joins] = if subject.by_key && endpoints <= 10_000 {
            quality(subject, chooser, endpoints, quick)
        } else {
            [f64::NAN; 3]
        };
        let metrics = [
            ("ns_per_pick", pick, "ns"),
            ("lookup_ns", lookup, "ns"),
            ("build_ms", *build_ms, "ms"),
            ("memory_kb", *kilobytes, "kB"),
            ("max_over_mean", spread, "x"),
            ("moved_when_one_leaves", leaves, "ratio"),
            ("moved_when_one_joins", joins, "ratio"),
        ];
        report.line(&format!("{}_{endpoints}", subject.name), subject.system, &metrics);
    }
    let tower = medians[&("p2c", "tower")];
    report.line(&format!("p2c_{endpoints}"), "tower", &[("ns_per_pick", tower, "ns")]);
}

/// The most loaded endpoint over the mean, and the share of keys that move when one leaves and
/// when one joins.
fn quality(subject: &Subject, chooser: &Chooser, endpoints: u32, quick: bool) -> [f64; 3] {
    let keys = if quick { 100_000 } else { 1_000_000 };
    let owners = chooser.choose_all(keys);
    let mut loads = vec![0_u64; endpoints as usize];
    for &owner in &owners {
        loads[owner as usize] += 1;
    }
    let most = loads.into_iter().max().unwrap_or(0);
    let some = keys / 5;
    // A bound looks at calls in flight: as many must be under way as are compared.
    let owners = if subject.is_bounded { chooser.choose_all(some) } else { owners };
    let moved = |hosts: Vec<u32>| {
        let now = (subject.make)(&hosts).choose_all(some);
        let moved = owners.iter().zip(&now).filter(|(before, after)| before != after).count();
        float(moved as u64) / float(some)
    };
    let left = (0..endpoints).filter(|&host| host != endpoints / 2).collect();
    let joined = (0..=endpoints).collect();
    [float(most) * f64::from(endpoints) / float(keys), moved(left), moved(joined)]
}
