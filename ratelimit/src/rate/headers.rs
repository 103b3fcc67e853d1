//! What a rate limit tells the clients of an HTTP server about itself.

use std::{
    fmt,
    hash::Hash,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response};
use outrigger_core::{Method, NameMethod, Observe};
use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    event::RateLimitEvent,
    layer::{KeyedRate, RateLimitLayer},
    limit::RateLimit,
    policy::RateLimitPolicy,
};
use crate::{ByKey, ByMethod, OTHER};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Adds `RateLimit-Policy` and `RateLimit` to every answer, as the IETF's draft
/// `draft-ietf-httpapi-ratelimit-headers` (from revision 8) has them.
///
/// - `RateLimit-Policy: "default";q=500;w=1`: 500 tokens come in a window of 1 s. A period that
///   is no whole number of seconds is said as its whole multiple above, up to a rounded token.
/// - `RateLimit: "default";r=49;t=1`: 49 tokens are there now, and all will be in 1 s; or
///   `r=0;t=1`: there is none, and the next comes within 1 s.
///
/// In the place of `default` stands a limit's name, if it has one. Put this outside of
/// [`RejectionResponseLayer`](outrigger_core::RejectionResponseLayer), so that refused calls have
/// the headers too. An answer costs two small allocations.
///
/// ```
/// use http::{Request, Response};
/// use outrigger_core::{Rejection, RejectionResponseLayer};
/// use outrigger_ratelimit::{RateLimitLayer, RateLimitPolicy};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), outrigger_core::InvalidPolicy> {
/// let limit = RateLimitLayer::new(RateLimitPolicy::builder().rate(500).burst(50).build()?);
/// let service = ServiceBuilder::new()
///     .layer(limit.headers())
///     .layer(RejectionResponseLayer::new())
///     .layer(limit)
///     .service_fn(|_: Request<()>| async { Ok::<_, Rejection>(Response::new(())) });
///
/// let response = service.oneshot(Request::new(())).await.unwrap();
/// assert_eq!(response.headers()["ratelimit-policy"], r#""default";q=500;w=1"#);
/// assert_eq!(response.headers()["ratelimit"], r#""default";r=49;t=1"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RateLimitHeadersLayer<L> {
    limits: L,
}

/// Adds the headers of a rate limit. Made by [`RateLimitHeadersLayer`].
#[derive(Clone, Debug)]
pub struct RateLimitHeaders<S, L> {
    inner: S,
    limits: L,
}

/// Response future of [`RateLimitHeaders`].
#[pin_project]
pub struct RateLimitHeadersFuture<F, O> {
    #[pin]
    response: F,
    limit: Option<RateLimit<O>>,
}

/// Which rate limit a request asks, to read it.
pub trait FindRateLimit<Request> {
    /// Who is told what the limits do.
    type Observer;

    /// The limit of `request`. `None` leaves the answer without headers.
    fn find(&self, request: &Request) -> Option<RateLimit<Self::Observer>>;
}

impl<Request, O> FindRateLimit<Request> for RateLimit<O> {
    type Observer = O;

    fn find(&self, _request: &Request) -> Option<Self> {
        Some(self.clone())
    }
}

impl<Request, F, K, O> FindRateLimit<Request> for KeyedRate<ByKey<F>, K, O>
where
    F: Fn(&Request) -> K,
    K: Hash + Eq + Clone + fmt::Display,
    O: Observe<RateLimitEvent>,
{
    type Observer = O;

    fn find(&self, request: &Request) -> Option<RateLimit<O>> {
        Some(self.panel.limit(&(self.read_key.0)(request)))
    }
}

impl<Request, N, O> FindRateLimit<Request> for KeyedRate<ByMethod<N>, Method, O>
where
    N: NameMethod<Request>,
    O: Observe<RateLimitEvent>,
{
    type Observer = O;

    fn find(&self, request: &Request) -> Option<RateLimit<O>> {
        let method = self.read_key.0.name_method(request).unwrap_or(OTHER);
        Some(self.panel.with_limit(&method, || method.to_owned(), RateLimit::clone))
    }
}

impl<L: Clone, P, X> RateLimitLayer<L, P, X> {
    /// A layer that tells clients of this layer's limits in headers of every answer.
    #[must_use]
    pub fn headers(&self) -> RateLimitHeadersLayer<L> {
        RateLimitHeadersLayer { limits: self.limits.clone() }
    }
}

impl<L> RateLimitHeadersLayer<L> {
    /// Tells of limits that were made elsewhere.
    #[must_use]
    pub const fn from_handle(limits: L) -> Self {
        Self { limits }
    }
}

impl<S, L: Clone> Layer<S> for RateLimitHeadersLayer<L> {
    type Service = RateLimitHeaders<S, L>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimitHeaders { inner, limits: self.limits.clone() }
    }
}

impl<S, L, A, B> Service<Request<A>> for RateLimitHeaders<S, L>
where
    S: Service<Request<A>, Response = Response<B>>,
    L: FindRateLimit<Request<A>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = RateLimitHeadersFuture<S::Future, L::Observer>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let limit = self.limits.find(&request);
        RateLimitHeadersFuture { response: self.inner.call(request), limit }
    }
}

impl<F, O, B, E> Future for RateLimitHeadersFuture<F, O>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.response.poll(cx))?;
        if let Some(limit) = this.limit.take() {
            let (name, policy) = (limit.name(), limit.policy().get());
            let headers = response.headers_mut();
            let tokens = limit.tokens();
            let wait = if tokens == 0 { limit.next_in() } else { limit.full_in() };
            for (header, value) in [
                (RATE_LIMIT_POLICY, policy_value(name, &policy)),
                (RATE_LIMIT, limit_value(name, tokens, wait)),
            ] {
                if let Ok(value) = HeaderValue::try_from(value) {
                    headers.insert(header, value);
                }
            }
        }
        Poll::Ready(Ok(response))
    }
}

impl<F, O> fmt::Debug for RateLimitHeadersFuture<F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitHeadersFuture").finish_non_exhaustive()
    }
}

fn policy_value(name: &str, policy: &RateLimitPolicy) -> String {
    let window = whole_seconds(policy.period()).max(1);
    let window_ns = u128::from(window) * 1_000_000_000;
    let per_token_ns = policy.time_per_token().as_nanos().max(1);
    let quota = (window_ns + per_token_ns / 2) / per_token_ns;
    format!("{};q={quota};w={window}", Quoted(name))
}

fn limit_value(name: &str, tokens: u32, wait: Duration) -> String {
    format!("{};r={tokens};t={}", Quoted(name), whole_seconds(wait))
}

/// Rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// A string of structured fields (RFC 9651): printable ASCII in quotes, all else as `?`.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;

        f.write_char('"')?;
        let name = if self.0.is_empty() { "default" } else { self.0 };
        for letter in name.chars() {
            match letter {
                '"' | '\\' => write!(f, "\\{letter}")?,
                ' '..='~' => f.write_char(letter)?,
                _ => f.write_char('?')?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_structured_fields_whatever_the_name() {
        let policy =
            |rate, period| RateLimitPolicy::builder().rate(rate).period(period).build().unwrap();
        let minute = policy(600, Duration::from_secs(60));
        assert_eq!(policy_value("", &minute), r#""default";q=600;w=60"#);
        let tenth = policy(50, Duration::from_millis(100));
        assert_eq!(policy_value("a \"b\" \\ é", &tenth), r#""a \"b\" \\ ?";q=500;w=1"#);
        let seven = policy(7, Duration::from_secs(1));
        assert_eq!(policy_value("", &seven), r#""default";q=7;w=1"#);
        assert_eq!(limit_value("a", 0, Duration::from_millis(10)), r#""a";r=0;t=1"#);
        assert_eq!(limit_value("a", 7, Duration::ZERO), r#""a";r=7;t=0"#);
    }
}
