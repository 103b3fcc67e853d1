//! A refusal as an HTTP response, and the layer that answers with it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Rejection, RejectionKind};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const GRPC_CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");

impl Rejection {
    /// The HTTP status of this refusal: 503, 429 or 504.
    #[must_use]
    pub fn http_status(&self) -> StatusCode {
        match self.kind {
            RejectionKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            RejectionKind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
            RejectionKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// An empty HTTP response: 503, 429 or 504, with `Retry-After` in whole seconds, rounded up
    /// (RFC 9110, section 10.2.3), when the wait is known.
    #[must_use]
    pub fn to_http_response<B: Default>(&self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = self.http_status();
        if let Some(wait) = self.retry_after {
            let seconds = HeaderValue::from(rounded_up(wait, Duration::from_secs(1)));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }

    /// A gRPC response of trailers only: status and message stand in the head, the body is empty.
    #[must_use]
    pub fn to_grpc_response<B: Default>(&self) -> Response<B> {
        let code = match self.kind {
            RejectionKind::Unavailable => 14_u16,
            RejectionKind::Exhausted => 8,
            RejectionKind::DeadlineExceeded => 4,
        };
        let mut response = Response::new(B::default());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, GRPC_CONTENT);
        headers.insert(GRPC_STATUS, HeaderValue::from(code));
        if let Ok(message) = HeaderValue::try_from(percent_encoded(&self.to_string())) {
            headers.insert(GRPC_MESSAGE, message);
        }
        if let Some(pushback_ms) = self.pushback_ms() {
            headers.insert(GRPC_PUSHBACK, HeaderValue::from(pushback_ms));
        }
        response
    }

    /// The wait in whole milliseconds, rounded up, as gRPC's pushback counts it.
    pub(super) fn pushback_ms(&self) -> Option<u64> {
        self.retry_after.map(|wait| rounded_up(wait, Duration::from_millis(1)))
    }
}

fn rounded_up(wait: Duration, unit: Duration) -> u64 {
    wait.as_nanos().div_ceil(unit.as_nanos()).try_into().unwrap_or(u64::MAX)
}

/// gRPC's encoding of `grpc-message`: printable ASCII but `%` stays, all else is `%XX`.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => {
                encoded.push('%');
                for digit in [byte >> 4, byte & 15] {
                    encoded.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
    encoded
}

/// Turns a [`Rejection`] into the HTTP response that tells it, so that the service cannot fail.
///
/// The outermost layer of a server whose error is `Infallible`. A request whose content type is
/// gRPC's gets a gRPC answer, every other request a plain HTTP one.
///
/// ```
/// use http::{Request, Response};
/// use outrigger_core::{Rejection, RejectionResponseLayer};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // The service below stands for a limit that is reached. Where the server cannot fail, as
/// // axum's cannot, put `.map_err(Rejection::from)` below the limit.
/// let service = ServiceBuilder::new().layer(RejectionResponseLayer::new()).service_fn(
///     |_: Request<String>| async {
///         Err::<Response<String>, _>(Rejection::exhausted("ratelimit", "limit_reached"))
///     },
/// );
///
/// let response = service.oneshot(Request::new(String::new())).await.unwrap();
/// assert_eq!(response.status(), 429);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RejectionResponseLayer {
    _private: (),
}

impl RejectionResponseLayer {
    /// Makes the layer.
    #[must_use]
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

impl<S> Layer<S> for RejectionResponseLayer {
    type Service = RejectionResponse<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RejectionResponse { inner, unready: None }
    }
}

/// Answers refused calls. Made by [`RejectionResponseLayer`].
#[derive(Debug)]
pub struct RejectionResponse<S> {
    inner: S,
    /// Set by `poll_ready` when the inner service cannot be called any more; answered in `call`.
    unready: Option<Rejection>,
}

/// By hand, since readiness belongs to one value.
impl<S: Clone> Clone for RejectionResponse<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), unready: None }
    }
}

impl<S, A, B> Service<Request<A>> for RejectionResponse<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Rejection>,
    B: Default,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = RejectionResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.unready = ready!(self.inner.poll_ready(cx)).err();
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let is_grpc = is_grpc(request.headers());
        let state = match self.unready.take() {
            None => State::Running(self.inner.call(request)),
            Some(rejection) => State::Unready(Some(rejection)),
        };
        RejectionResponseFuture { is_grpc, state }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|content| content.as_bytes().starts_with(GRPC_CONTENT.as_bytes()))
}

/// Response future of [`RejectionResponse`].
#[pin_project]
#[derive(Debug)]
pub struct RejectionResponseFuture<F> {
    is_grpc: bool,
    #[pin]
    state: State<F>,
}

#[pin_project(project = StateProj)]
#[derive(Debug)]
enum State<F> {
    Running(#[pin] F),
    Unready(Option<Rejection>),
}

impl<F, B> Future for RejectionResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, Rejection>>,
    B: Default,
{
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = match this.state.project() {
            StateProj::Running(response) => ready!(response.poll(cx)),
            StateProj::Unready(rejection) => {
                Err(rejection.take().expect("a future is not polled after completion"))
            }
        };
        let response = match result {
            Ok(response) => response,
            Err(rejection) if *this.is_grpc => rejection.to_grpc_response(),
            Err(rejection) => rejection.to_http_response(),
        };
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_below_a_second_is_never_rounded_down_to_now() {
        let rejection =
            Rejection::exhausted("ratelimit", "rate").with_retry_after(Duration::from_millis(10));
        let response: Response<()> = rejection.to_http_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn a_grpc_answer_is_trailers_only_with_pushback() {
        let rejection = Rejection::unavailable("circuitbreak", "circuit_open")
            .with_key("größe%")
            .with_retry_after(Duration::from_secs(2));
        let response: Response<()> = rejection.to_grpc_response();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-retry-pushback-ms"], "2000");
        assert_eq!(
            response.headers()["grpc-message"],
            "call refused by circuitbreak `gr%C3%B6%C3%9Fe%25`: circuit open; try again in 2s"
        );
    }
}
