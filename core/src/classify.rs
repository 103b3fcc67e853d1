use crate::{Outcome, Rejection, RejectionKind};

#[cfg(feature = "http")]
mod grpc;
#[cfg(feature = "http")]
mod http;

#[cfg(feature = "http")]
pub use self::{grpc::GrpcStatus, http::HttpStatus};

/// Decides what a call turned out to be.
///
/// One classifier serves every layer: breaker, retry, adaptive limit, ejection, metrics. A closure
/// over the result is a classifier:
///
/// ```
/// use outrigger_core::{Classify, Outcome};
///
/// let not_found_is_fine = |result: Result<&u16, &String>| match result {
///     Ok(404) => Outcome::Success,
///     Ok(status) if *status >= 500 => Outcome::Failure,
///     Ok(_) => Outcome::Success,
///     Err(_) => Outcome::Failure,
/// };
/// assert_eq!(not_found_is_fine.classify(Ok(&404)), Outcome::Success);
/// assert_eq!(not_found_is_fine.classify(Ok(&503)), Outcome::Failure);
/// ```
pub trait Classify<Response, Error> {
    /// Judges a call by what its future gave: the response (over HTTP only its head), or the
    /// user's own error.
    fn classify(&self, result: Result<&Response, &Error>) -> Outcome;

    /// Judges again when the body ended with `trailers`, where gRPC puts its status.
    ///
    /// `head` is what [`classify`](Self::classify) made of the response. By default it stands.
    #[cfg(feature = "http")]
    fn classify_trailers(&self, head: Outcome, trailers: &::http::HeaderMap) -> Outcome {
        let _ = trailers;
        head
    }
}

impl<F, Response, Error> Classify<Response, Error> for F
where
    F: Fn(Result<&Response, &Error>) -> Outcome,
{
    fn classify(&self, result: Result<&Response, &Error>) -> Outcome {
        self(result)
    }
}

/// Every response is a success and every error a failure. The default classifier.
///
/// A [`Rejection`] by a layer further in, bare or boxed, tells more: a call that was cut short is
/// a [`Timeout`](Outcome::Timeout), one that was never sent is [`Ignored`](Outcome::Ignored),
/// since it says nothing about the callee.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorsAreFailures;

impl<Response, Error: 'static> Classify<Response, Error> for ErrorsAreFailures {
    fn classify(&self, result: Result<&Response, &Error>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) => of_error(error),
        }
    }
}

/// What an error says when nothing is known of its type.
fn of_error<Error: 'static>(error: &Error) -> Outcome {
    match Rejection::find_in(error) {
        None => Outcome::Failure,
        Some(rejection) => of_rejection(rejection),
    }
}

fn of_rejection(rejection: &Rejection) -> Outcome {
    match rejection.kind() {
        _ if !rejection.was_sent() => Outcome::Ignored,
        RejectionKind::DeadlineExceeded => Outcome::Timeout,
        RejectionKind::Unavailable | RejectionKind::Exhausted => Outcome::Failure,
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    type BoxError = Box<dyn Error + Send + Sync>;

    fn judge(error: impl Into<BoxError>) -> Outcome {
        ErrorsAreFailures.classify(Err::<&(), _>(&error.into()))
    }

    #[test]
    fn an_error_is_a_failure_and_a_response_a_success() {
        assert_eq!(judge("connection reset"), Outcome::Failure);
        assert_eq!(ErrorsAreFailures.classify(Ok::<_, &BoxError>(&())), Outcome::Success);
    }

    #[test]
    fn a_refusal_further_in_says_nothing_about_the_callee_unless_the_call_was_sent() {
        assert_eq!(judge(Rejection::exhausted("ratelimit", "rate")), Outcome::Ignored);
        let not_sent = Rejection::deadline_exceeded("retry", "deadline");
        assert_eq!(judge(not_sent.clone()), Outcome::Ignored);
        assert_eq!(judge(not_sent.sent()), Outcome::Timeout);
    }
}
