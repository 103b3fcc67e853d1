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
        let mut judged: Option<String> = None;
        let mut seen: Option<String> = None;
        loop {
            match file.read().await {
                Ok(text) if judged.as_ref() == Some(&text) => seen = None,
                Ok(text) if judged.is_none() || seen.as_ref() == Some(&text) => {
                    let loaded = PolicySet::parse(&name, &text, file.format);
                    // The observer was told of a refusal.
                    drop(self.put_in_force(&name, loaded.map_err(LoadError::Invalid)));
                    (judged, seen) = (Some(text), None);
                }
                Ok(text) => seen = Some(text),
                // Away, perhaps for the moment between two renames: the last good one stays.
                Err(_) => seen = None,
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
