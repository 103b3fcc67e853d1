use std::{
    fmt,
    ops::Range,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    load::{self, Answer},
    report::{Chronicle, Report},
};

/// The names of the servers, in the order of their numbers.
pub const SERVERS: [&str; 3] = ["a", "b", "c"];

/// Three servers under a steady load, one of which fails for a while and heals.
#[derive(Clone, Debug)]
pub struct Scenario {
    transport: &'static str,
    stopwatch: Stopwatch,
}

/// How the scenario is told.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = Self::FAULT;
        write!(
            f,
            "Three {} servers, {} calls per second for {:?}. From {start:?} to {end:?}, server `{}`\n\
             takes {:?} for every answer, and three answers of four say `unavailable`.",
            self.transport,
            Self::CALLS_PER_SECOND,
            Self::LENGTH,
            SERVERS[Self::FAULTY],
            Self::SLOWNESS,
        )
    }
}

impl Scenario {
    /// How long calls are sent.
    pub const LENGTH: Duration = Duration::from_secs(8);
    /// How many calls are sent per second, to all servers together, whatever became of the last.
    pub const CALLS_PER_SECOND: u32 = 300;
    /// The server that fails.
    pub const FAULTY: usize = 1;
    /// When it fails: from half way until enough time is left to see it healed.
    pub const FAULT: Range<Duration> = Duration::from_secs(4)..Duration::from_millis(6_500);
    /// How long it takes for an answer while it fails.
    pub const SLOWNESS: Duration = Duration::from_millis(300);
    /// Seeds the choice of a server for each call.
    pub const SEED: u64 = 2;

    /// A scenario over `transport`, as a person calls it.
    #[must_use]
    pub fn new(transport: &'static str) -> Self {
        Self { transport, stopwatch: Stopwatch::default() }
    }

    /// What the server with this number is to suffer.
    #[must_use]
    pub fn health(&self, server: usize) -> Health {
        Health { stopwatch: self.stopwatch.clone(), is_faulty: server == Self::FAULTY }
    }

    /// Writes down what the breakers do.
    #[must_use]
    pub fn chronicle(&self) -> Chronicle {
        Chronicle::new(self.stopwatch.clone())
    }

    /// Sends the same calls at the same moments through both clients, and reports.
    ///
    /// A client is given the number of the server and that of the call.
    pub async fn play<G, U>(
        &self,
        chronicle: Chronicle,
        governed: impl Fn(usize, u64) -> G,
        ungoverned: impl Fn(usize, u64) -> U,
    ) -> Report
    where
        G: Future<Output = Answer> + Send + 'static,
        U: Future<Output = Answer> + Send + 'static,
    {
        let start = self.stopwatch.start();
        let (governed, ungoverned) =
            tokio::join!(load::send(start, governed), load::send(start, ungoverned));
        Report::new(self, &governed, &ungoverned, &chronicle)
    }
}

/// Whether a server is well.
#[derive(Clone, Debug)]
pub struct Health {
    stopwatch: Stopwatch,
    is_faulty: bool,
}

impl Health {
    /// Takes the time that the server needs for the call with this number, and says whether it can
    /// answer it.
    pub async fn is_able_to_answer(&self, number: u64) -> bool {
        let fails_now = self.is_faulty && Scenario::FAULT.contains(&self.stopwatch.elapsed());
        if fails_now {
            sleep(Scenario::SLOWNESS).await;
        }
        !fails_now || number.is_multiple_of(4)
    }
}

/// The time since the load began; zero before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stopwatch {
    started: Arc<OnceLock<Instant>>,
}

impl Stopwatch {
    fn start(&self) -> Instant {
        *self.started.get_or_init(Instant::now)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.get().map_or(Duration::ZERO, Instant::elapsed)
    }
}
