use std::sync::Arc;

use outrigger_core::MethodRef;

use super::series::{Instruments, MethodSeries};

/// Finds the instruments of a call, with those of the last method at hand: a service that is
/// called for one method again and again compares two names, and looks nothing up.
///
/// A clone has nothing at hand. Servers call each of their clones once, so the first look-up keeps
/// nothing.
#[derive(Debug)]
pub(super) struct AtHand {
    /// `None` where no metrics are recorded.
    instruments: Option<Arc<Instruments>>,
    last: Option<Arc<MethodSeries>>,
    was_asked: bool,
}

impl AtHand {
    pub(super) const fn new(instruments: Option<Arc<Instruments>>) -> Self {
        Self { instruments, last: None, was_asked: false }
    }

    /// The instruments of a method, with the call counted as under way.
    #[inline]
    pub(super) fn begin(&mut self, method: Option<MethodRef<'_>>) -> Option<Arc<MethodSeries>> {
        let instruments = self.instruments.as_ref()?;
        let series = match &self.last {
            Some(last) if last.is_of(method) => Arc::clone(last),
            _ => {
                let series = instruments.find(method);
                if self.was_asked {
                    self.last = Some(Arc::clone(&series));
                }
                self.was_asked = true;
                series
            }
        };
        series.begin();
        Some(series)
    }
}

impl Clone for AtHand {
    fn clone(&self) -> Self {
        Self::new(self.instruments.clone())
    }
}
