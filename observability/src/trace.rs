#[cfg(feature = "tracing-opentelemetry")]
mod propagation;
#[cfg(feature = "tracing")]
mod span;

#[cfg(feature = "tracing")]
pub(crate) use self::span::{CallSpan, Spans};

/// No span, since the feature `tracing` is off.
#[cfg(not(feature = "tracing"))]
#[derive(Debug, Default)]
pub(crate) struct CallSpan;

#[cfg(not(feature = "tracing"))]
#[expect(clippy::unused_self, reason = "with the feature there is a span to work with")]
impl CallSpan {
    #[inline]
    pub(crate) fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        work()
    }

    #[inline]
    pub(crate) fn end(&self, _end: &crate::CallEnd) {}
}
