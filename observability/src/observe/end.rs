use std::{borrow::Cow, time::Duration};

use outrigger_core::{Outcome, Rejection};

/// What a call turned out to be, for who looks on.
///
/// [`Outcome`] as governance sees it, with what governance ignores told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallOutcome {
    /// The callee did its work.
    Success,
    /// The callee failed or could not be reached, the body broke off, or the call panicked.
    Failure,
    /// The callee did not answer in time.
    Timeout,
    /// The caller's own mistake.
    Ignored,
    /// A layer of ours refused the call, so that it was never sent.
    Refused,
    /// The future was dropped, or the body of a good response before its end.
    Cancelled,
}

impl CallOutcome {
    /// The stable word, as on the label `outrigger.outcome`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Timeout => "timeout",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) const fn new(outcome: Outcome, status: Status) -> Self {
        match (outcome, status) {
            (_, Status::Refused(_)) => Self::Refused,
            (Outcome::Success, _) => Self::Success,
            (Outcome::Failure, _) => Self::Failure,
            (Outcome::Timeout, _) => Self::Timeout,
            (Outcome::Ignored, _) => Self::Ignored,
        }
    }
}

/// What a call's answer says beside its outcome: the labels `rpc.status_code` and `error.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Nothing.
    #[default]
    None,
    /// A code of gRPC; one beyond the known ones counts as `UNKNOWN`.
    Grpc(u8),
    /// A status of HTTP.
    Http(u16),
    /// A layer of ours refused the call, for this reason.
    Refused(&'static str),
    /// Something went wrong that has no code: a short, stable word for it.
    Error(&'static str),
}

const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

const CANCELLED: u8 = 1;
const UNKNOWN: u8 = 2;

impl Status {
    /// The status that `grpc-status` writes as this number.
    #[must_use]
    pub fn grpc(code: i32) -> Self {
        let code = u8::try_from(code).ok().filter(|code| usize::from(*code) < GRPC_CODES.len());
        Self::Grpc(code.unwrap_or(UNKNOWN))
    }

    /// The value of `rpc.status_code`: `UNAVAILABLE` or `503`.
    pub(crate) fn code(self) -> Option<Cow<'static, str>> {
        match self {
            Self::Grpc(code) => GRPC_CODES.get(usize::from(code)).copied().map(Cow::Borrowed),
            Self::Http(code) => Some(Cow::Owned(code.to_string())),
            _ => None,
        }
    }

    /// The value of `grpc.status`: always a name.
    pub(crate) fn grpc_name(self, outcome: CallOutcome) -> &'static str {
        match (self, outcome) {
            (Self::Grpc(code), _) => {
                GRPC_CODES.get(usize::from(code)).copied().unwrap_or("UNKNOWN")
            }
            (_, CallOutcome::Success) => "OK",
            (_, CallOutcome::Cancelled) => GRPC_CODES[usize::from(CANCELLED)],
            (_, CallOutcome::Timeout) => "DEADLINE_EXCEEDED",
            (Self::Refused(_), _) => "UNAVAILABLE",
            _ => GRPC_CODES[usize::from(UNKNOWN)],
        }
    }

    /// The value of `error.type` for a call that ended so.
    pub(crate) fn error_type(self, outcome: CallOutcome) -> Option<Cow<'static, str>> {
        match (outcome, self) {
            (CallOutcome::Success, _) => None,
            (CallOutcome::Cancelled, _) => Some("cancelled".into()),
            (_, Self::Refused(word) | Self::Error(word)) => Some(word.into()),
            (_, Self::None) => Some("_OTHER".into()),
            (_, Self::Grpc(_) | Self::Http(_)) => self.code(),
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CallEnd {
    /// What it turned out to be.
    pub outcome: CallOutcome,
    /// What its answer says beside that.
    pub status: Status,
    /// From the call to the end of the body.
    pub duration: Duration,
}

/// Reads a call's [`Status`] from its result. [`Protocol`](crate::Protocol)s are readers too.
pub trait ReadStatus<Response, Error> {
    /// What the response (over HTTP only its head) or the error says.
    fn status(&self, result: Result<&Response, &Error>) -> Status;

    /// What the trailers say, where gRPC puts its status. By default the head's word stands.
    #[cfg(feature = "http")]
    fn status_of_trailers(&self, head: Status, trailers: &http::HeaderMap) -> Status {
        let _ = trailers;
        head
    }
}

/// What an error says when nothing is known of its type.
pub(super) fn of_error<E: 'static>(error: &E) -> Status {
    match Rejection::find_in(error) {
        Some(rejection) if rejection.was_sent() => Status::Error(rejection.reason()),
        Some(rejection) => Status::Refused(rejection.reason()),
        None => Status::Error("_OTHER"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_names_for_grpc_and_numbers_for_http() {
        let code = Status::code;
        assert_eq!(code(Status::grpc(14)).as_deref(), Some("UNAVAILABLE"));
        assert_eq!(code(Status::grpc(99)).as_deref(), Some("UNKNOWN"));
        assert_eq!(code(Status::grpc(-1)).as_deref(), Some("UNKNOWN"));
        assert_eq!(code(Status::Http(404)).as_deref(), Some("404"));
        assert_eq!(code(Status::Refused("circuit_open")), None);
    }

    #[test]
    fn only_a_success_has_no_error_type() {
        let word = |outcome, status: Status| status.error_type(outcome);
        assert_eq!(word(CallOutcome::Success, Status::grpc(0)), None);
        let not_found = word(CallOutcome::Ignored, Status::grpc(5));
        assert_eq!(not_found.as_deref(), Some("NOT_FOUND"));
        assert_eq!(word(CallOutcome::Failure, Status::None).as_deref(), Some("_OTHER"));
        let cancelled = word(CallOutcome::Cancelled, Status::Http(200));
        assert_eq!(cancelled.as_deref(), Some("cancelled"));
    }
}
