use tracing::{Level, Span, field::Empty};

use crate::{CallEnd, CallOutcome, CallStart, ObserveLayer, Side};

/// Whether calls are spans. Part of a layer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spans {
    are_made: bool,
    #[cfg(feature = "tracing-opentelemetry")]
    pub(super) are_passed_on: bool,
}

impl<P, C, T, X> ObserveLayer<P, C, T, X> {
    /// Makes each call, or each attempt, a `tracing` span. Default: it is none.
    ///
    /// An attempt's span is a child of its call's, since it begins within it. While no subscriber
    /// listens, a call costs a look at an atomic. See the crate's front page for the fields.
    #[must_use]
    pub fn spans(self) -> Self {
        self.set_spans(|spans| spans.are_made = true)
    }

    /// As [`spans`](Self::spans), and passes the span's trace context and baggage on as W3C headers
    /// (`traceparent`, `tracestate`, `baggage`); a server takes those of its caller over.
    #[cfg(feature = "tracing-opentelemetry")]
    #[must_use]
    pub fn propagate(self) -> Self {
        self.set_spans(|spans| *spans = Spans { are_made: true, are_passed_on: true })
    }
}

macro_rules! call_span {
    ($start:expr, $name:literal, $kind:literal) => {
        tracing::span!(
            target: "outrigger",
            Level::INFO,
            $name,
            otel.name = $start.method.map(tracing::field::display),
            otel.kind = $kind,
            otel.status_code = Empty,
            rpc.system.name = $start.system,
            rpc.method = $start.method.map(tracing::field::display),
            rpc.status_code = Empty,
            error.type = Empty,
            server.address = $start.target,
            network.peer.address = $start.peer,
            outrigger.attempt = (Side::Attempt == $start.side).then_some($start.attempt),
            outrigger.outcome = Empty,
        )
    };
}

impl Spans {
    pub(crate) fn begin(self, start: &CallStart<'_>) -> CallSpan {
        if !self.are_made {
            return CallSpan(Span::none());
        }
        CallSpan(match start.side {
            Side::Client => call_span!(start, "rpc.client.call", "client"),
            Side::Attempt => call_span!(start, "rpc.client.attempt", "client"),
            Side::Server => call_span!(start, "rpc.server.call", "server"),
        })
    }
}

/// The span of a call, if it has one.
#[derive(Debug)]
pub(crate) struct CallSpan(pub(super) Span);

impl CallSpan {
    #[inline]
    pub(crate) fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        // In one place, so that the layers below are compiled into it once.
        let _entered = (!self.0.is_none()).then(|| self.0.enter());
        work()
    }

    pub(crate) fn end(&self, end: &CallEnd) {
        if self.0.is_disabled() {
            return;
        }
        self.0.record("outrigger.outcome", end.outcome.as_str());
        if let Some(code) = end.status.code() {
            self.0.record("rpc.status_code", &*code);
        }
        if let Some(word) = end.status.error_type(end.outcome) {
            self.0.record("error.type", &*word);
        }
        let is_ok = matches!(end.outcome, CallOutcome::Success);
        if !is_ok {
            self.0.record("otel.status_code", "ERROR");
        }
    }
}
