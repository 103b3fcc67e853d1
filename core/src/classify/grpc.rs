use http::{HeaderMap, Response};

use super::{Classify, http::of_status, of_error};
use crate::Outcome;

/// Judges by `grpc-status`, in the head (trailers only) or in the trailers.
///
/// | code | outcome |
/// | --- | --- |
/// | `OK` | `Success` |
/// | `DEADLINE_EXCEEDED` | `Timeout` |
/// | `UNKNOWN`, `RESOURCE_EXHAUSTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`, a number beyond the known ones | `Failure` |
/// | `CANCELLED`, `INVALID_ARGUMENT`, `NOT_FOUND`, `ALREADY_EXISTS`, `PERMISSION_DENIED`, `FAILED_PRECONDITION`, `ABORTED`, `OUT_OF_RANGE`, `UNIMPLEMENTED`, `UNAUTHENTICATED` | `Ignored`: says nothing about the callee's health |
///
/// A response without `grpc-status` that is no HTTP success (a proxy's answer) is judged by its
/// HTTP status. An error is judged as by [`ErrorsAreFailures`](crate::ErrorsAreFailures); with the
/// feature `tonic`, a `tonic::Status` by its code.
///
/// Put [`OnBodyEnd`](crate::OnBodyEnd) beside it, so that the trailers are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrpcStatus;

impl<B, E: 'static> Classify<Response<B>, E> for GrpcStatus {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) => {
                of_headers(response.headers()).unwrap_or_else(|| of_status(response.status()))
            }
            Err(error) => of_grpc_error(error),
        }
    }

    fn classify_trailers(&self, head: Outcome, trailers: &HeaderMap) -> Outcome {
        of_headers(trailers).unwrap_or(head)
    }
}

fn of_headers(headers: &HeaderMap) -> Option<Outcome> {
    let status = headers.get("grpc-status")?;
    Some(status.to_str().ok().and_then(|code| code.parse().ok()).map_or(Outcome::Failure, of_code))
}

/// The codes of the gRPC specification (`statuscodes.md`).
fn of_code(code: i32) -> Outcome {
    match code {
        0 => Outcome::Success,
        4 => Outcome::Timeout,
        1 | 3 | 5 | 6 | 7 | 9 | 10 | 11 | 12 | 16 => Outcome::Ignored,
        _ => Outcome::Failure,
    }
}

fn of_grpc_error<E: 'static>(error: &E) -> Outcome {
    #[cfg(feature = "tonic")]
    if let Some(status) = (error as &dyn std::any::Any).downcast_ref::<tonic::Status>() {
        return match crate::Rejection::find(status) {
            Some(rejection) => super::of_rejection(rejection),
            None => of_code(status.code().into()),
        };
    }
    of_error(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, grpc_status: Option<&'static str>) -> Response<()> {
        let mut builder = Response::builder().status(status);
        if let Some(code) = grpc_status {
            builder = builder.header("grpc-status", code);
        }
        builder.body(()).unwrap()
    }

    fn judge(response: &Response<()>) -> Outcome {
        GrpcStatus.classify(Ok::<_, &std::io::Error>(response))
    }

    #[test]
    fn the_status_stands_in_the_head_or_in_the_trailers() {
        assert_eq!(judge(&response(200, Some("14"))), Outcome::Failure);
        assert_eq!(judge(&response(200, Some("3"))), Outcome::Ignored);
        assert_eq!(judge(&response(200, Some("4"))), Outcome::Timeout);
        assert_eq!(judge(&response(200, Some("nonsense"))), Outcome::Failure);

        let head = judge(&response(200, None));
        assert_eq!(head, Outcome::Success);
        let trailers = response(200, Some("13"));
        let end = |trailers| {
            Classify::<Response<()>, std::io::Error>::classify_trailers(&GrpcStatus, head, trailers)
        };
        assert_eq!(end(trailers.headers()), Outcome::Failure);
        assert_eq!(end(&HeaderMap::new()), Outcome::Success);
    }

    #[test]
    fn a_proxys_answer_is_judged_by_its_http_status() {
        assert_eq!(judge(&response(503, None)), Outcome::Failure);
        assert_eq!(judge(&response(404, None)), Outcome::Ignored);
    }

    #[cfg(feature = "tonic")]
    #[test]
    fn a_status_is_judged_by_its_code_and_a_refusal_by_whether_it_was_sent() {
        use crate::Rejection;
        let judge = |status: &tonic::Status| GrpcStatus.classify(Err::<&Response<()>, _>(status));
        assert_eq!(judge(&tonic::Status::unavailable("down")), Outcome::Failure);
        assert_eq!(judge(&tonic::Status::not_found("no such row")), Outcome::Ignored);
        let refused = tonic::Status::from(Rejection::exhausted("ratelimit", "rate"));
        assert_eq!(judge(&refused), Outcome::Ignored);
    }
}
