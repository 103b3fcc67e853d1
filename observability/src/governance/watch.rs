use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::family::Families;

/// Looks at something that tells nothing by itself, such as how much of a limit is in use.
pub(super) type Look = dyn Fn(&Families) + Send + Sync;

/// What is looked at when values are sampled.
#[derive(Default)]
pub(super) struct Watches {
    looks: Mutex<Vec<Weak<Look>>>,
}

impl Watches {
    pub(super) fn add(&self, look: impl Fn(&Families) + Send + Sync + 'static) -> Watched {
        let look: Arc<Look> = Arc::new(look);
        self.lock().push(Arc::downgrade(&look));
        Watched { _look: look }
    }

    /// Looks at all that is still watched, with nothing locked.
    pub(super) fn look(&self, families: &Families) {
        let looks: Vec<_> = {
            let mut looks = self.lock();
            looks.retain(|look| look.strong_count() > 0);
            looks.iter().filter_map(Weak::upgrade).collect()
        };
        for look in looks {
            look(families);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Look>>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").finish_non_exhaustive()
    }
}

/// Something is watched while this lives. What is watched lives as long, too.
#[must_use = "nothing is watched once this is dropped"]
pub struct Watched {
    _look: Arc<Look>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}
