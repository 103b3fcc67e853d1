use http::{HeaderMap, Response, StatusCode};
use outrigger_core::{Classify, GrpcStatus, Outcome};

/// Judges whether the callee took a call on, by the HTTP status or by `grpc-status`.
///
/// | answer | outcome |
/// | --- | --- |
/// | HTTP 429, 503; gRPC `RESOURCE_EXHAUSTED`, `UNAVAILABLE` | `Failure`: refused for overload |
/// | HTTP 408, 504; gRPC `DEADLINE_EXCEEDED` | `Timeout`: no time for it |
/// | every other, a 500 too | `Success`: whatever came of it, the callee did the work |
///
/// Errors are judged as by [`GrpcStatus`], a `tonic::Status` among them by its code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverloadStatus;

impl<B, E: 'static> Classify<Response<B>, E> for OverloadStatus {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) => {
                of_grpc(response.headers()).unwrap_or_else(|| match response.status() {
                    StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                        Outcome::Failure
                    }
                    StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Outcome::Timeout,
                    _ => Outcome::Success,
                })
            }
            Err(error) => GrpcStatus.classify(Err::<&Response<B>, _>(error)),
        }
    }

    fn classify_trailers(&self, head: Outcome, trailers: &HeaderMap) -> Outcome {
        of_grpc(trailers).unwrap_or(head)
    }
}

fn of_grpc(headers: &HeaderMap) -> Option<Outcome> {
    let code = headers.get("grpc-status")?.as_bytes();
    Some(match code {
        b"8" | b"14" => Outcome::Failure,
        b"4" => Outcome::Timeout,
        _ => Outcome::Success,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_overload_is_not_accepted() {
        let judge = |status: u16, code: Option<&str>| {
            let mut response = Response::builder().status(status);
            if let Some(code) = code {
                response = response.header("grpc-status", code);
            }
            let response = response.body(()).unwrap();
            OverloadStatus.classify(Ok::<_, &std::io::Error>(&response))
        };
        assert_eq!([429, 503].map(|status| judge(status, None)), [Outcome::Failure; 2]);
        assert_eq!([408, 504].map(|status| judge(status, None)), [Outcome::Timeout; 2]);
        assert_eq!([200, 404, 500].map(|status| judge(status, None)), [Outcome::Success; 3]);
        assert_eq!(["8", "14"].map(|code| judge(200, Some(code))), [Outcome::Failure; 2]);
        assert_eq!(judge(200, Some("4")), Outcome::Timeout);
        assert_eq!(["0", "5", "13"].map(|code| judge(200, Some(code))), [Outcome::Success; 3]);
        let broken = std::io::Error::other("connection refused");
        let judged = OverloadStatus.classify(Err::<&Response<()>, _>(&broken));
        assert_eq!(judged, Outcome::Failure);
    }
}
