//! Policies that follow a file or a stream.

use std::{
    fs,
    future::poll_fn,
    io,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use futures_core::Stream;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{Format, Governance, LoadError, ObserveGovernance, PolicySet, document::format_of};

/// A policy file that is read again whenever it changes.
///
/// It is looked at from time to time, not through notices of the file system: so it does not matter
/// how an editor or a deployment replaces it (in place, by renaming another over it, by swapping a
/// symbolic link as Kubernetes does for a `ConfigMap`), whether it was away for a while, or whether
/// the file system sends notices at all. A change counts when it is read alike twice in a row, so
/// that a file that is being written is not taken for a wrong one.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    path: PathBuf,
    format: Format,
    interval: Duration,
}

impl PolicyFile {
    /// The file at `path`, in the format that its extension tells. It need not be there yet.
    ///
    /// # Errors
    ///
    /// When the extension is none of `json`, `yaml`, `yml` and `toml`.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, LoadError> {
        let path = path.into();
        let Some(format) = format_of(&path) else {
            return Err(LoadError::Extension(path.display().to_string().into()));
        };
        Ok(Self { path, format, interval: Duration::from_millis(500) })
    }

    /// How long to wait between two looks. Default: 500 ms; at least 1 ms.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(Duration::from_millis(1));
        self
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn read(&self) -> io::Result<String> {
        let path = self.path.clone();
        spawn_blocking(move || fs::read_to_string(path)).await.map_err(io::Error::other)?
    }
}

impl<O: ObserveGovernance> Governance<O> {
    /// Follows `file` for as long as it is polled: spawn it.
    ///
    /// What cannot be read or is invalid leaves the policies in force as they are, and the observer
    /// is told why, once for each content. A file that is taken away changes nothing.
    pub async fn follow_file(self, file: PolicyFile) {
        let name = file.path.display().to_string();
        let mut looks = Looks::default();
        loop {
            if let Some(text) = looks.take(file.read().await.ok()) {
                let loaded = PolicySet::parse(&name, text, file.format);
                // The observer was told of a refusal.
                drop(self.put_in_force(&name, loaded.map_err(LoadError::Invalid)));
            }
            sleep(file.interval).await;
        }
    }

    /// Follows a stream of sets until it ends.
    pub async fn follow(self, sets: impl Stream<Item = PolicySet>) {
        let mut sets = pin!(sets);
        while let Some(set) = poll_fn(|cx| sets.as_mut().poll_next(cx)).await {
            self.replace(set);
        }
    }
}

/// What was read so far, and which of it counts.
#[derive(Debug, Default)]
struct Looks {
    judged: Option<String>,
    seen: Option<String>,
}

impl Looks {
    /// What is to be put in force after this look, if anything. `None` is a file that is away,
    /// perhaps for the moment between two renames: what was judged stays.
    fn take(&mut self, text: Option<String>) -> Option<&str> {
        let text = text.filter(|text| self.judged.as_ref() != Some(text));
        let counts = text.is_some() && (self.judged.is_none() || self.seen == text);
        if !counts {
            self.seen = text;
            return None;
        }
        self.seen = None;
        self.judged = text;
        self.judged.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_being_written_counts_when_it_is_whole() {
        let mut looks = Looks::default();
        let mut look = |text: &str| looks.take(Some(text.to_owned())).map(str::to_owned);
        assert_eq!(look("one").as_deref(), Some("one"), "the first counts at once");
        assert_eq!([look("one"), look("tw"), look("two")], [None, None, None]);
        assert_eq!(look("two").as_deref(), Some("two"));
        assert_eq!([look("two"), look("three"), look("two"), look("three")], [const { None }; 4]);
        assert_eq!(look("three").as_deref(), Some("three"));
    }

    #[test]
    fn a_file_that_is_away_for_a_moment_is_the_same_when_it_is_back() {
        let mut looks = Looks::default();
        assert_eq!(looks.take(None), None);
        assert_eq!(looks.take(Some("one".to_owned())), Some("one"));
        assert_eq!(looks.take(None), None);
        assert_eq!(looks.take(Some("one".to_owned())), None);
        assert_eq!(looks.take(Some("two".to_owned())), None);
        assert_eq!(looks.take(None), None);
        assert_eq!(looks.take(Some("two".to_owned())), None, "not twice in a row");
        assert_eq!(looks.take(Some("two".to_owned())), Some("two"));
    }
}
