use http::{Response, StatusCode};

use super::{Classify, of_error};
use crate::Outcome;

/// Judges by the HTTP status of the response.
///
/// | status | outcome |
/// | --- | --- |
/// | below 400 | `Success` |
/// | 408, 504 | `Timeout` |
/// | 429, other 5xx | `Failure` |
/// | other 4xx | `Ignored`: the caller's own mistake must not open a circuit |
///
/// An error is judged as by [`ErrorsAreFailures`](crate::ErrorsAreFailures).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpStatus;

impl<B, E: 'static> Classify<Response<B>, E> for HttpStatus {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) => of_status(response.status()),
            Err(error) => of_error(error),
        }
    }
}

pub(super) fn of_status(status: StatusCode) -> Outcome {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Outcome::Timeout,
        StatusCode::TOO_MANY_REQUESTS => Outcome::Failure,
        status if status.is_server_error() => Outcome::Failure,
        status if status.is_client_error() => Outcome::Ignored,
        _ => Outcome::Success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_mistake_is_ignored_and_overload_is_a_failure() {
        let judge = |code: u16| of_status(StatusCode::from_u16(code).unwrap());
        assert_eq!([200, 204, 304].map(judge), [Outcome::Success; 3]);
        assert_eq!([400, 401, 404, 422].map(judge), [Outcome::Ignored; 4]);
        assert_eq!([429, 500, 503].map(judge), [Outcome::Failure; 3]);
        assert_eq!([408, 504].map(judge), [Outcome::Timeout; 2]);
    }
}
