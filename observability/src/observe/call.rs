use std::{fmt, marker::PhantomData, sync::Arc};

use outrigger_core::{Classify, Complete, End, Moment, Outcome};
use tokio::time::Instant;

use super::{CallEnd, CallOutcome, ReadStatus, Status, resent::Resent, series::MethodSeries};
use crate::{Tracer, trace::CallSpan};

/// A call that is under way. Ends when it is told to or, as cancelled, when it is dropped.
pub(super) struct Call<X: Tracer> {
    pub(super) started: Instant,
    pub(super) series: Option<Arc<MethodSeries>>,
    pub(super) span: CallSpan,
    /// Only kept where a metric tells of it.
    pub(super) resent: Option<Resent>,
    pub(super) tracers: X,
    /// Taken when the call ends.
    pub(super) state: Option<X::State>,
}

impl<X: Tracer> Call<X> {
    /// Does the call's work within its span.
    #[inline]
    pub(super) fn enter<R>(&mut self, work: impl FnOnce() -> R) -> R {
        // In one place, so that the layers below are compiled into it once.
        let _counting = self.resent.as_mut().map(Resent::count);
        self.span.enter(work)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: to move it takes longer than the rest")]
    pub(super) fn end(mut self, outcome: CallOutcome, status: Status) {
        self.end_once(outcome, status);
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: to move it takes longer than the rest")]
    fn end_once(&mut self, outcome: CallOutcome, status: Status) {
        let Some(state) = self.state.take() else { return };
        let duration = Moment::now().saturating_duration_since(self.started);
        let end = CallEnd { outcome, status, duration };
        if let Some(series) = &self.series {
            series.end(&end, self.resent);
        }
        self.span.end(&end);
        self.tracers.finish(state, &end);
    }
}

impl<X: Tracer> Drop for Call<X> {
    fn drop(&mut self) {
        if self.state.is_none() {
            return;
        }
        if std::thread::panicking() {
            self.end_once(CallOutcome::Failure, Status::Error("panic"));
        } else {
            self.end_once(CallOutcome::Cancelled, Status::None);
        }
    }
}

impl<X: Tracer> fmt::Debug for Call<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("started", &self.started).finish_non_exhaustive()
    }
}

/// A call whose response is there, but is not over yet. Waits in the response body.
pub struct PendingCall<P, C, X: Tracer, Response, Error> {
    pub(super) call: Call<X>,
    /// What the head said.
    pub(super) outcome: Outcome,
    pub(super) status: Status,
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only bodies have trailers"))]
    pub(super) protocol: P,
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only bodies have trailers"))]
    pub(super) classifier: C,
    pub(super) of: PhantomData<fn(&Response, &Error)>,
}

impl<P, C, X, Response, Error> Complete for PendingCall<P, C, X, Response, Error>
where
    P: ReadStatus<Response, Error>,
    C: Classify<Response, Error>,
    X: Tracer,
{
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: to move it takes longer than the rest")]
    fn complete(self, end: End<'_>) {
        let (mut outcome, mut status) = (self.outcome, self.status);
        match end {
            #[cfg(feature = "http")]
            End::Trailers(trailers) => {
                outcome = self.classifier.classify_trailers(outcome, trailers);
                status = self.protocol.status_of_trailers(status, trailers);
            }
            End::BodyFailed if outcome == Outcome::Success => {
                outcome = Outcome::Failure;
                status = Status::Error("body");
            }
            // A head that tells a failure stays one, however little of the body was wanted.
            End::BodyDropped if outcome == Outcome::Success => {
                return self.call.end(CallOutcome::Cancelled, status);
            }
            _ => {}
        }
        self.call.end(CallOutcome::new(outcome, status), status);
    }
}

impl<P, C, X: Tracer, Response, Error> fmt::Debug for PendingCall<P, C, X, Response, Error> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCall").field("call", &self.call).finish_non_exhaustive()
    }
}
