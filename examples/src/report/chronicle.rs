use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

use crate::scenario::Stopwatch;

/// Writes down when the circuits change their states.
#[derive(Clone, Debug)]
pub struct Chronicle {
    stopwatch: Stopwatch,
    changes: Arc<Mutex<Vec<Change>>>,
}

/// A circuit's change of state.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Change {
    pub(crate) at_s: f64,
    pub(crate) server: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) cause: &'static str,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
}

impl Chronicle {
    pub(crate) fn new(stopwatch: Stopwatch) -> Self {
        Self { stopwatch, changes: Arc::default() }
    }

    fn note(&self, change: Change) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_s, server, from, to, cause, calls, errors } = self;
        write!(f, "{at_s:>6.3} s  {server}  {from} -> {to}: {cause}")?;
        if *calls > 0 {
            write!(f, ", {errors} of {calls} calls in the window failed")?;
        }
        Ok(())
    }
}
