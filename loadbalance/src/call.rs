use std::sync::Arc;

use outrigger_core::Outcome;

use crate::engine::{Ending, Node, Seated, Shown, Stamp};

/// A call in flight: counted until it is told how it ended, or dropped.
#[derive(Debug)]
pub(crate) struct Call {
    seat: Seated,
    ending: Ending,
}

impl Call {
    /// A call that has been counted on its seat.
    pub(crate) const fn on(
        seat: Seated,
        began: Option<Stamp>,
        shown: Shown,
        bounded: bool,
    ) -> Self {
        Self { seat, ending: Ending { outcome: None, began, bounded, shown } }
    }

    /// It waits: where pickers look at calls in flight, all threads are to see it.
    pub(crate) fn show(&mut self) {
        if self.ending.shown == Shown::OnceItWaits {
            self.ending.shown = Shown::Yes;
            self.seat.show();
        }
    }

    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.seat.node()
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.seat.is_removed()
    }

    pub(crate) fn endpoint_id(&self) -> u64 {
        self.node().map_or(0, |node| node.id())
    }

    /// Takes what the endpoint says of its load, if it says anything.
    #[cfg(feature = "orca")]
    pub(crate) fn report(&self, trailers: &http::HeaderMap) {
        let report = crate::LoadReport::from_headers(trailers);
        if let Some((report, node)) = report.zip(self.node()) {
            node.report(&report, node.now());
        }
    }

    /// Ends it. Dropping it instead cancels it.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.ending.outcome = Some(outcome);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.seat.leave(&self.ending);
    }
}
