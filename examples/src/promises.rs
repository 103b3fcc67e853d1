use std::fmt;

use serde::Serialize;

use crate::program::{Told, json};

/// What an example promises, and what was seen of it.
#[derive(Clone, Debug, Serialize)]
pub struct Promises {
    about: &'static str,
    promises: Vec<Promise>,
}

#[derive(Clone, Debug, Serialize)]
struct Promise {
    what: &'static str,
    seen: String,
    is_kept: bool,
}

impl Promises {
    /// Nothing is promised yet.
    #[must_use]
    pub const fn of(about: &'static str) -> Self {
        Self { about, promises: Vec::new() }
    }

    /// Adds a promise, what was seen, and whether that keeps it.
    pub fn add(&mut self, what: &'static str, seen: impl fmt::Display, is_kept: bool) {
        self.promises.push(Promise { what, seen: seen.to_string(), is_kept });
    }
}

impl Told for Promises {
    fn to_json(&self) -> serde_json::Result<String> {
        json(self)
    }

    fn check(&self) -> Result<(), String> {
        match self.promises.iter().find(|promise| !promise.is_kept) {
            None => Ok(()),
            Some(broken) => Err(format!("a promise was not kept: {}", broken.what)),
        }
    }
}

impl fmt::Display for Promises {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.about)?;
        for Promise { what, seen, is_kept } in &self.promises {
            let mark = if *is_kept { "kept  " } else { "BROKEN" };
            writeln!(f, "  {mark}  {what}: {seen}")?;
        }
        Ok(())
    }
}
