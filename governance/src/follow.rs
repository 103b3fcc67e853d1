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

    /// What is there; `None` if nothing is.
    async fn read(&self) -> Option<Seen> {
        let path = self.path.clone();
        let read = spawn_blocking(move || fs::read_to_string(path)).await;
        match read.map_err(io::Error::other).and_then(|read| read) {
            Ok(text) => Some(Seen::Text(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Seen::Unreadable(error.kind(), error.to_string())),
        }
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
            let loaded = looks.take(file.read().await).map(|seen| match seen {
                Seen::Text(text) => {
                    PolicySet::parse(&name, text, file.format).map_err(LoadError::Invalid)
                }
                Seen::Unreadable(kind, error) => {
                    let error = io::Error::new(*kind, error.as_str());
                    Err(LoadError::File(name.as_str().into(), error))
                }
            });
            if let Some(loaded) = loaded {
                // The observer was told of a refusal.
                drop(self.put_in_force(&name, loaded));
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
    judged: Option<Seen>,
    seen: Option<Seen>,
}

#[derive(Debug, PartialEq)]
enum Seen {
    Text(String),
    /// And why.
    Unreadable(io::ErrorKind, String),
}

impl Looks {
    /// What is to be put in force after this look, if anything. `None` is a file that is away,
    /// perhaps for the moment between two renames: what was judged stays.
    fn take(&mut self, seen: Option<Seen>) -> Option<&Seen> {
        let seen = seen.filter(|seen| self.judged.as_ref() != Some(seen));
        let counts = seen.is_some() && (self.judged.is_none() || self.seen == seen);
        if !counts {
            self.seen = seen;
            return None;
        }
        self.seen = None;
        self.judged = seen;
        self.judged.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Looks {
        fn text(&mut self, text: Option<&str>) -> Option<String> {
            match self.take(text.map(|text| Seen::Text(text.to_owned())))? {
                Seen::Text(text) => Some(text.clone()),
                Seen::Unreadable(_, why) => panic!("{why}"),
            }
        }
    }

    #[test]
    fn a_file_that_is_being_written_counts_when_it_is_whole() {
        let mut looks = Looks::default();
        let mut look = |text: &str| looks.text(Some(text));
        assert_eq!(look("one").as_deref(), Some("one"), "the first counts at once");
        assert_eq!([look("one"), look("tw"), look("two")], [None, None, None]);
        assert_eq!(look("two").as_deref(), Some("two"));
        assert_eq!([look("two"), look("three"), look("two"), look("three")], [const { None }; 4]);
        assert_eq!(look("three").as_deref(), Some("three"));
    }

    #[test]
    fn a_file_that_is_away_for_a_moment_is_the_same_when_it_is_back() {
        let mut looks = Looks::default();
        assert_eq!(looks.text(None), None);
        assert_eq!(looks.text(Some("one")).as_deref(), Some("one"));
        assert_eq!(looks.text(None), None);
        assert_eq!(looks.text(Some("one")), None);
        assert_eq!(looks.text(Some("two")), None);
        assert_eq!(looks.text(None), None);
        assert_eq!(looks.text(Some("two")), None, "not twice in a row");
        assert_eq!(looks.text(Some("two")).as_deref(), Some("two"));
    }
}
