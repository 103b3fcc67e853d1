//! `rpc`: real unary calls of gRPC over loopback, with client and server in this process.

mod stacks;

use std::{net::SocketAddr, sync::mpsc::channel, thread, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use crate::{
    kit::{Clock, Spread, float, nanos, runtime},
    row::Report,
    sim::Latencies,
};

/// The rows that others are compared with: the channel alone, and that with a deadline in each
/// request.
const BARE: &str = "unary";
const BARE_DEADLINE: &str = "unary_deadline";

/// A client that makes one call after the other.
trait Client: Clone + Send + 'static {
    /// Makes a call; says whether it was answered.
    fn ask(&mut self, number: u64) -> impl Future<Output = bool> + Send;
}

/// What so many calls took.
#[derive(Debug, Default)]
struct Turn {
    time: Duration,
    cpu: Duration,
    latencies: Vec<Duration>,
}

type Load = Box<dyn Fn(&Runtime, u64, u64) -> Turn>;

/// One client, with what it was measured to take.
struct Case {
    name: &'static str,
    system: &'static str,
    load: Load,
    turns: Vec<Turn>,
}

impl Case {
    fn new(name: &'static str, system: &'static str, client: impl Client) -> Self {
        let load = move |runtime: &Runtime, in_flight, calls| {
            let (began, cpu) = (Clock::now(), cpu_time());
            let latencies = runtime.block_on(load(&client, in_flight, calls));
            Turn { time: began.elapsed(), cpu: cpu_time().saturating_sub(cpu), latencies }
        };
        Self { name, system, load: Box::new(load), turns: Vec::new() }
    }

    fn cpu_us_per_call(&self) -> impl Iterator<Item = f64> {
        let per_call = |turn: &Turn| nanos(turn.cpu) / 1e3 / float(turn.latencies.len() as u64);
        self.turns.iter().map(per_call)
    }

    /// Heap allocations of the client's side, per call.
    fn allocs(&self, runtime: &Runtime, in_flight: u64) -> f64 {
        let calls = in_flight * 64;
        (self.load)(runtime, in_flight, calls);
        let mut made = 0;
        let info = allocation_counter::measure(|| {
            made = (self.load)(runtime, in_flight, calls).latencies.len();
        });
        float(info.count_total) / float(made as u64)
    }
}

/// Processor time of this process, all its threads.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Makes `calls` calls on `in_flight` tasks and says how long each took.
async fn load(client: &impl Client, in_flight: u64, calls: u64) -> Vec<Duration> {
    let task = |_| {
        let mut client = client.clone();
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            for number in 0..calls / in_flight {
                let began = Clock::now();
                assert!(client.ask(number).await, "the server answers every call");
                latencies.push(began.elapsed());
            }
            latencies
        })
    };
    let tasks: Vec<_> = (0..in_flight).map(task).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.append(&mut task.await.expect("no call panics"));
    }
    latencies
}

/// Starts a server on a thread of its own.
fn serve() -> SocketAddr {
    let (tell, address) = channel();
    thread::spawn(move || {
        runtime().block_on(async {
            let answer = |_| std::future::ready(true);
            let address = outrigger_examples::greeter::serve_by(answer).await;
            tell.send(address.expect("a port of this machine's")).expect("who started it waits");
            std::future::pending::<()>().await;
        });
    });
    address.recv().expect("the server has started")
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = Report::new("rpc");
    report.note("Unary calls over one connection; client and server have a thread each.");
    report.note("cpu_us_per_call is of the whole process, so of both; cpu_ratio is that over the");
    report.note("bare client's in the same round: the median, and where its middle half lies.");
    report.note("deadline_ratio: that over the bare client's that says a deadline in each request");
    report.note("(unary_deadline): tonic then starts a timer at the client and one at the server.");
    report
        .note("unary_layers_no_header cuts calls short without telling the server, as tower does.");
    report.note("unary_to_balancer tells what stands inside of what was tried; unary needs not.");
    report.note("allocs_over_bare: what the layers add on the client's side to each call.");
    let runtime = runtime();
    let (mut cases, recorder) = stacks::all(&runtime, serve());
    for (in_flight, calls, rounds) in [(1, 512, 51), (64, 2_048, 121)] {
        let rounds = if quick { 11 } else { rounds };
        for round in 0..=rounds {
            // Who comes first changes, so that none always follows the same other.
            let count = cases.len();
            for place in 0..count {
                let case = &mut cases[(round + place) % count];
                let turn = (case.load)(&runtime, in_flight, calls);
                // The first round warms up.
                if round > 0 {
                    case.turns.push(turn);
                }
            }
            // As a scrape does: the recorder keeps every value until then.
            recorder.run_upkeep();
        }
        tell(&mut report, &mut cases, &runtime, in_flight);
    }
    report
}

/// Adds the lines of all cases, and forgets their turns.
fn tell(report: &mut Report, cases: &mut [Case], runtime: &Runtime, in_flight: u64) {
    let cpu_of = |name| {
        let case = cases.iter().find(|case| (case.name, case.system) == (name, "bare"));
        case.map(|case| case.cpu_us_per_call().collect()).unwrap_or_default()
    };
    let (bare, deadline): (Vec<f64>, Vec<f64>) = (cpu_of(BARE), cpu_of(BARE_DEADLINE));
    let bare_allocs = cases[0].allocs(runtime, in_flight);
    for case in cases {
        let mut cpu: Vec<f64> = case.cpu_us_per_call().collect();
        let [over_bare, over_deadline] = [&bare, &deadline].map(|base| quarters(&cpu, base));
        let allocs = case.allocs(runtime, in_flight) - bare_allocs;
        let rate = |turn: &Turn| float(turn.latencies.len() as u64) / turn.time.as_secs_f64();
        let mut rates: Vec<f64> = case.turns.iter().map(rate).collect();
        let all = case.turns.drain(..).flat_map(|turn| turn.latencies).collect();
        let latencies = Latencies::of(all);
        let metrics = [
            ("calls_per_s", Spread::of(&mut rates).median, "calls/s"),
            ("p50_us", latencies.quantile(0.5) * 1e3, "us"),
            ("p99_us", latencies.quantile(0.99) * 1e3, "us"),
            ("cpu_us_per_call", Spread::of(&mut cpu).median, "us"),
            ("cpu_ratio", over_bare[1], "x"),
            ("cpu_ratio_p25", over_bare[0], "x"),
            ("cpu_ratio_p75", over_bare[2], "x"),
            ("deadline_ratio", over_deadline[1], "x"),
            ("deadline_ratio_p25", over_deadline[0], "x"),
            ("deadline_ratio_p75", over_deadline[2], "x"),
            ("allocs_over_bare", (allocs * 100.0).round() / 100.0, "allocations"),
        ];
        report.line(&format!("{}_{in_flight}", case.name), case.system, &metrics);
    }
}

/// The quarters of what each round took over what `base` took in the same.
fn quarters(own: &[f64], base: &[f64]) -> [f64; 3] {
    let mut ratios: Vec<f64> = own.iter().zip(base).map(|(own, base)| own / base).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| ratios[ratios.len() * quarter / 4])
}
