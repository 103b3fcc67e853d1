use std::{
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use super::{
    parts::{CannotChange, Change, Diagnose, Part},
    recent::Recent,
    snapshot::{Row, Snapshot},
    told::{Note, Told},
};

const DEFAULT_EVENTS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Looks at breakers, limits, retry budgets and balancers, and keeps in mind what happened of late.
///
/// Clones are handles to the same. What is registered is held weakly: nothing is kept alive, and
/// what is gone is forgotten. Give a clone to the layers as their observer, and it keeps their last
/// 256 events; the same event again and again is one, with a count.
///
/// ```
/// # #[cfg(feature = "circuitbreak")] {
/// use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerPolicy};
/// use outrigger_observability::Diagnosis;
///
/// let diagnosis = Diagnosis::new();
/// let breaker = CircuitBreaker::builder(CircuitBreakerPolicy::default())
///     .name("orders")
///     .observe(diagnosis.clone())
///     .build();
/// diagnosis.register("calls of the shop", breaker.downgrade());
///
/// breaker.force_open();
/// let snapshot = diagnosis.snapshot();
/// assert_eq!(snapshot.breakers[0].key, "orders");
/// assert_eq!(snapshot.breakers[0].state, "forced_open");
/// assert_eq!(snapshot.events[0].kind, "state_changed");
///
/// drop(breaker);
/// assert!(diagnosis.snapshot().breakers.is_empty());
/// # }
/// ```
#[derive(Clone)]
pub struct Diagnosis {
    shared: Arc<Shared>,
}

struct Shared {
    parts: Mutex<Vec<Registered>>,
    registered: AtomicU64,
    recent: Recent,
    started: Instant,
}

#[derive(Clone)]
struct Registered {
    number: u64,
    name: Arc<str>,
    part: Arc<dyn Diagnose>,
}

impl Diagnosis {
    /// Looks at nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_events(DEFAULT_EVENTS)
    }

    /// Looks at nothing yet, and will keep this many events. Default: 256.
    #[must_use]
    pub fn with_events(most: NonZeroUsize) -> Self {
        let shared = Shared {
            parts: Mutex::default(),
            registered: AtomicU64::new(0),
            recent: Recent::new(most),
            started: Instant::now(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Looks at `part`, as long as it is there, under this name. Names need not differ.
    ///
    /// Give it the weak form of a handle, which `downgrade()` makes.
    pub fn register(&self, name: impl Into<Arc<str>>, part: impl Diagnose) {
        let number = self.shared.registered.fetch_add(1, Ordering::Relaxed);
        let registered = Registered { number, name: name.into(), part: Arc::new(part) };
        let count = {
            let mut parts = self.parts();
            parts.push(registered);
            parts.len()
        };
        // So that who registers for ever and never looks does not fill the memory.
        if count >= 64 && count.is_power_of_two() {
            self.look();
        }
    }

    /// How all of it stands at this moment.
    ///
    /// Looks at one after the other, so two rows are not of the very same moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            format: 1,
            at_ms: now_ms(),
            up_ms: millis(self.shared.started.elapsed()),
            allows_changes: false,
            breakers: Vec::new(),
            limits: Vec::new(),
            budgets: Vec::new(),
            balancers: Vec::new(),
            events: self.shared.recent.rows(),
            left_out: 0,
            events_missed: self.shared.recent.missed(),
        };
        for (Registered { number, name, .. }, part) in self.look() {
            match part {
                Part::Breakers { rows, left_out } => {
                    snapshot.breakers.extend(belonging(rows, number, &name));
                    snapshot.left_out += left_out;
                }
                Part::Limits { rows, left_out } => {
                    snapshot.limits.extend(belonging(rows, number, &name));
                    snapshot.left_out += left_out;
                }
                Part::Budget(row) => snapshot.budgets.extend(belonging([row], number, &name)),
                Part::Balancer { row, left_out } => {
                    snapshot.balancers.extend(belonging([row], number, &name));
                    snapshot.left_out += left_out;
                }
            }
        }
        snapshot
    }

    /// Changes by hand what stands in the row of this part and key, and notes it as an event.
    ///
    /// # Errors
    ///
    /// When it is gone, or cannot be changed in this way.
    pub fn change(&self, part: u64, key: &str, change: Change) -> Result<(), CannotChange> {
        let found = self.parts().iter().find(|registered| registered.number == part).cloned();
        let Registered { name, part, .. } = found.ok_or(CannotChange::NotFound)?;
        part.change(key, change)?;
        let key = if key.is_empty() { &*name } else { key };
        self.note(key, Note::of(Told::ByHand(change)));
        Ok(())
    }

    /// Notes as an event that a set of policies from `source` is in force, or was refused.
    pub fn policy_reloaded(&self, source: &str, applied: bool) {
        self.note(source, Note::of(Told::Reloaded(applied)));
    }

    pub(super) fn note(&self, key: &str, note: Note) {
        self.shared.recent.note(key, note, now_ms());
    }

    /// Looks at all that is there, with nothing locked, and forgets what is gone.
    fn look(&self) -> Vec<(Registered, Part)> {
        let parts = self.parts().clone();
        let mut gone = Vec::new();
        let mut looks = Vec::with_capacity(parts.len());
        for registered in parts {
            match registered.part.snapshot() {
                Some(part) => looks.push((registered, part)),
                None => gone.push(registered.number),
            }
        }
        if !gone.is_empty() {
            self.parts().retain(|registered| !gone.contains(&registered.number));
        }
        looks
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Registered>> {
        self.shared.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn belonging<R: Row>(
    rows: impl IntoIterator<Item = R>,
    part: u64,
    name: &str,
) -> impl Iterator<Item = R> {
    rows.into_iter().map(move |mut row| {
        row.belong(part, name);
        row
    })
}

fn now_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Default for Diagnosis {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diagnosis").field("parts", &self.parts().len()).finish_non_exhaustive()
    }
}
