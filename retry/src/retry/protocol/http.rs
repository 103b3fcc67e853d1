use std::{
    any::Any,
    error::Error as StdError,
    future::{Ready, ready},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use outrigger_core::{AttemptContext, CarryContext, Classify, InExtensions, Outcome, Rejection};

use super::{Advice, Protocol};
use crate::{
    Pushback, Sent,
    peek::{Peek, PeekedBody},
};

/// The mark of a request that is, or serves, a retry: Kitex's persistent key `RetryReq` as its
/// metainfo stands in HTTP headers. The value is the attempt's number.
pub(crate) const RETRY_MARK: HeaderName = HeaderName::from_static("rpc-persist-retryreq");
/// How many attempts of the call were made before (gRFC A6).
pub(crate) const PREVIOUS_ATTEMPTS: HeaderName =
    HeaderName::from_static("grpc-previous-rpc-attempts");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// HTTP: the context travels in the request's extensions, retries are marked in its headers,
/// `Retry-After` is heeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Http;

impl<B> CarryContext<Request<B>> for Http {
    fn context<'a>(&self, request: &'a Request<B>) -> Option<&'a AttemptContext> {
        InExtensions.context(request)
    }

    fn set_context(&self, request: &mut Request<B>, context: AttemptContext) {
        InExtensions.set_context(request, context);
    }
}

impl<B, C, Error: 'static> Protocol<Request<B>, Response<C>, Error> for Http {
    type Answer = Response<C>;
    type Settle = Ready<Response<C>>;

    fn begin_attempt(&self, request: &mut Request<B>, context: &AttemptContext, previous: u32) {
        Protocol::<Request<B>, Response<C>, Error>::tell_peer(self, request, context, previous);
        InExtensions.set_context(request, context.clone());
    }

    fn tell_peer(&self, request: &mut Request<B>, context: &AttemptContext, _previous: u32) {
        mark(request.headers_mut(), context);
    }

    fn settle(&self, response: Response<C>, _unary: bool) -> Self::Settle {
        ready(response)
    }

    fn advice(&self, result: Result<&Response<C>, &Error>) -> Advice {
        match result {
            Ok(response) => {
                Advice { pushback: Pushback::of_headers(response.headers()), ..Advice::default() }
            }
            Err(error) => of_error(error),
        }
    }
}

/// gRPC: as [`Http`], with `grpc-previous-rpc-attempts`, `grpc-retry-pushback-ms` and the status,
/// in the head or, for a policy of [`unary`](crate::RetryPolicyBuilder::unary) methods, in the
/// trailers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grpc;

impl<B> CarryContext<Request<B>> for Grpc {
    fn context<'a>(&self, request: &'a Request<B>) -> Option<&'a AttemptContext> {
        InExtensions.context(request)
    }

    fn set_context(&self, request: &mut Request<B>, context: AttemptContext) {
        InExtensions.set_context(request, context);
    }
}

impl<B, C, Error> Protocol<Request<B>, Response<C>, Error> for Grpc
where
    C: Body + Unpin,
    Error: 'static,
{
    type Answer = Response<PeekedBody<C>>;
    type Settle = Peek<C>;

    fn begin_attempt(&self, request: &mut Request<B>, context: &AttemptContext, previous: u32) {
        Protocol::<Request<B>, Response<C>, Error>::tell_peer(self, request, context, previous);
        InExtensions.set_context(request, context.clone());
    }

    fn tell_peer(&self, request: &mut Request<B>, context: &AttemptContext, previous: u32) {
        if previous > 0 {
            request.headers_mut().insert(PREVIOUS_ATTEMPTS, HeaderValue::from(previous));
        }
        mark(request.headers_mut(), context);
    }

    fn settle(&self, response: Response<C>, unary: bool) -> Peek<C> {
        Peek::new(response, unary)
    }

    fn classify<K>(&self, classifier: &K, result: Result<&Self::Answer, &Error>) -> Outcome
    where
        K: Classify<Self::Answer, Error>,
    {
        let head = classifier.classify(result);
        match result.map(Response::body) {
            Ok(body) if body.has_failed() => Outcome::Failure,
            Ok(body) => body
                .trailers()
                .map_or(head, |trailers| classifier.classify_trailers(head, trailers)),
            Err(_) => head,
        }
    }

    fn advice(&self, result: Result<&Self::Answer, &Error>) -> Advice {
        match result {
            Ok(response) => {
                let headers = response.body().trailers().unwrap_or(response.headers());
                Advice {
                    pushback: Pushback::of_headers(headers),
                    status_code: status_code(headers),
                    ..Advice::default()
                }
            }
            Err(error) => of_error(error),
        }
    }
}

fn status_code(headers: &HeaderMap) -> Option<i32> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// Tells the peer that this request is, or serves, a retry.
fn mark(headers: &mut HeaderMap, context: &AttemptContext) {
    if context.number > 0 {
        headers.insert(RETRY_MARK, HeaderValue::from(context.number));
    } else if context.caller_is_retry {
        headers.entry(RETRY_MARK).or_insert(HeaderValue::from(1));
    }
}

/// What an error says, if its type is known: a `Rejection`, a boxed error, a `tonic::Status`.
fn of_error<E: 'static>(error: &E) -> Advice {
    if let Some(rejection) = Rejection::find_in(error) {
        return Advice::of_rejection(rejection);
    }
    let error: &dyn Any = error;
    #[cfg(feature = "tonic")]
    if let Some(status) = error.downcast_ref::<tonic::Status>() {
        return of_status(status);
    }
    match error.downcast_ref::<Box<dyn StdError + Send + Sync>>() {
        #[cfg(feature = "tonic")]
        Some(error) if error.is::<tonic::Status>() => {
            error.downcast_ref().map_or_else(Advice::default, of_status)
        }
        Some(error) => Advice { sent: Sent::of_error(&**error), ..Advice::default() },
        None => Advice::default(),
    }
}

#[cfg(feature = "tonic")]
fn of_status(status: &tonic::Status) -> Advice {
    Advice {
        sent: Sent::of_error(status),
        pushback: Pushback::of_headers(status.metadata().as_ref()),
        status_code: Some(status.code().into()),
        ..Advice::default()
    }
}
