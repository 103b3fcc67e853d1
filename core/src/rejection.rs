use std::{convert::Infallible, error::Error, fmt, sync::Arc, time::Duration};

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "tonic")]
mod tonic;

#[cfg(feature = "http")]
pub use self::http::{RejectionResponse, RejectionResponseFuture, RejectionResponseLayer};

/// A layer refused a call, or cut it short.
///
/// One type for all layers. It stays small and making one allocates nothing, since a refusal must
/// cost less than the call that it saves. An inner service's own errors are never wrapped in it.
///
/// A layer needs `S::Error: From<Rejection>` of the service below it: [`tower::BoxError`] has it
/// already, a user's enum takes one variant, and `tonic::Status` has it with the feature `tonic`.
///
/// [`tower::BoxError`]: https://docs.rs/tower/0.5/tower/type.BoxError.html
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    kind: RejectionKind,
    was_sent: bool,
    layer: &'static str,
    reason: &'static str,
    key: Option<Arc<str>>,
    retry_after: Option<Duration>,
}

/// What a refusal means to the caller, whichever layer made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionKind {
    /// Nobody to ask: the circuit is open, or no endpoint is left. gRPC `UNAVAILABLE`, HTTP 503.
    Unavailable,
    /// A limit is reached. gRPC `RESOURCE_EXHAUSTED`, HTTP 429.
    Exhausted,
    /// The time for the call is over. gRPC `DEADLINE_EXCEEDED`, HTTP 504.
    DeadlineExceeded,
}

impl Rejection {
    /// Nobody to ask.
    ///
    /// `layer` is the crate's word for itself (`"circuitbreak"`), `reason` a stable word for
    /// machines in `snake_case` (`"circuit_open"`).
    #[must_use]
    pub const fn unavailable(layer: &'static str, reason: &'static str) -> Self {
        Self::new(RejectionKind::Unavailable, layer, reason)
    }

    /// A limit is reached. See [`unavailable`](Self::unavailable) for the arguments.
    #[must_use]
    pub const fn exhausted(layer: &'static str, reason: &'static str) -> Self {
        Self::new(RejectionKind::Exhausted, layer, reason)
    }

    /// The time for the call is over. See [`unavailable`](Self::unavailable) for the arguments.
    ///
    /// Says that the call was not sent; add [`sent`](Self::sent) when it was.
    #[must_use]
    pub const fn deadline_exceeded(layer: &'static str, reason: &'static str) -> Self {
        Self::new(RejectionKind::DeadlineExceeded, layer, reason)
    }

    const fn new(kind: RejectionKind, layer: &'static str, reason: &'static str) -> Self {
        Self { kind, was_sent: false, layer, reason, key: None, retry_after: None }
    }

    /// Names the one who refused among its like: a breaker's key, a limit's name, a method.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Says when a next call may succeed.
    #[must_use]
    pub const fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// Says that the call had been passed on before it was cut short, so that it may have been
    /// executed.
    #[must_use]
    pub const fn sent(mut self) -> Self {
        self.was_sent = true;
        self
    }

    /// What the refusal means to the caller.
    #[must_use]
    pub const fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// The layer that refused, by its crate's word: `"circuitbreak"`, `"ratelimit"`, …
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        self.layer
    }

    /// A stable word for machines: `"circuit_open"`, `"limit_reached"`, …
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    /// Which one of the layer's breakers, limits or budgets refused, if it has a name.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// How long to wait before a next call may succeed, if that is known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the call had been passed on, and so may have been executed.
    ///
    /// `false` for all but a time-out: what was never sent may be tried elsewhere even when the
    /// method is not idempotent.
    #[must_use]
    pub const fn was_sent(&self) -> bool {
        self.was_sent
    }

    /// Finds a refusal among an error and its sources.
    ///
    /// ```
    /// use outrigger_core::Rejection;
    ///
    /// let error: Box<dyn std::error::Error> = Rejection::exhausted("ratelimit", "rate").into();
    /// assert_eq!(Rejection::find(&*error).unwrap().reason(), "rate");
    /// ```
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(rejection) = error.downcast_ref() {
                return Some(rejection);
            }
            next = error.source();
        }
        None
    }

    /// Finds a refusal in an error whose type is only known to be `'static`.
    ///
    /// Looks into a bare [`Rejection`], a boxed error and, with the feature `tonic`, a
    /// `tonic::Status`. A user's own enum is opaque to it: give the layer a classifier that knows
    /// the enum.
    #[must_use]
    pub fn find_in<E: 'static>(error: &E) -> Option<&Self> {
        let error: &dyn std::any::Any = error;
        if let Some(rejection) = error.downcast_ref::<Self>() {
            return Some(rejection);
        }
        if let Some(boxed) = error.downcast_ref::<Box<dyn Error + Send + Sync>>() {
            return Self::find(&**boxed);
        }
        #[cfg(feature = "tonic")]
        if let Some(status) = error.downcast_ref::<::tonic::Status>() {
            return Self::find(status);
        }
        None
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.was_sent { "cut short" } else { "refused" };
        write!(f, "call {verb} by {}", self.layer)?;
        if let Some(key) = &self.key {
            write!(f, " `{key}`")?;
        }
        f.write_str(": ")?;
        for (position, word) in self.reason.split('_').enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(word)?;
        }
        match self.retry_after {
            Some(wait) => write!(f, "; try again in {wait:?}"),
            None => Ok(()),
        }
    }
}

impl Error for Rejection {}

/// For servers that cannot fail, such as axum's: `map_err(Rejection::from)` below the layers.
impl From<Infallible> for Rejection {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_who_why_and_when() {
        let bare = Rejection::exhausted("ratelimit", "limit_reached");
        assert_eq!(bare.to_string(), "call refused by ratelimit: limit reached");

        let full = Rejection::deadline_exceeded("retry", "attempt_timeout")
            .sent()
            .with_key("a/b")
            .with_retry_after(Duration::from_millis(7));
        let said = "call cut short by retry `a/b`: attempt timeout; try again in 7ms";
        assert_eq!(full.to_string(), said);
    }

    #[test]
    fn a_refusal_is_found_bare_boxed_and_behind_a_source() {
        #[derive(Debug)]
        struct Outer(Rejection);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("outer")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }

        let rejection = Rejection::unavailable("circuitbreak", "circuit_open");
        assert_eq!(Rejection::find_in(&rejection), Some(&rejection));
        let boxed: Box<dyn Error + Send + Sync> = Outer(rejection.clone()).into();
        assert_eq!(Rejection::find_in(&boxed), Some(&rejection));
        assert_eq!(Rejection::find_in(&"some other error"), None);
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Rejection>() <= 72, "{} bytes", size_of::<Rejection>());
        assert!(size_of::<Result<u64, Rejection>>() <= 72);
    }
}
