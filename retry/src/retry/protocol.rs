//! What requests, answers and errors of a protocol say beyond what a classifier sees.

use std::future::{Ready, ready};

use outrigger_core::{AttemptContext, CarryContext, Classify, NoContext, Outcome, Rejection};

use crate::{Pushback, Sent};

#[cfg(feature = "http")]
mod http;

#[cfg(feature = "http")]
pub use self::http::{Grpc, Http};
#[cfg(feature = "http")]
pub(crate) use self::http::{PREVIOUS_ATTEMPTS, RETRY_MARK};

/// Reads and writes what a protocol knows of retries, beside the context that it carries
/// ([`CarryContext`]).
///
/// [`Plain`] is the default and fits any request; `Http` and `Grpc` (feature `http`) know headers
/// and trailers.
pub trait Protocol<Request, Response, Error> {
    /// What the call gives: the response, or the response with what was read of its body.
    type Answer;
    /// Waits until enough of a response is there to judge it.
    type Settle: Future<Output = Self::Answer>;

    /// Says in `request` which attempt it is, and to the peer that `previous` attempts of this call
    /// were made before. A first attempt is asked for only if it serves a retry.
    fn begin_attempt(&self, request: &mut Request, context: &AttemptContext, previous: u32);

    /// The part of [`begin_attempt`](Self::begin_attempt) that tells the peer, for who has told the
    /// layers further in otherwise. Default: peers are told nothing.
    fn tell_peer(&self, _request: &mut Request, _context: &AttemptContext, _previous: u32) {}

    /// Waits until `response` can be judged; when `unary`, to the end of a short answer.
    fn settle(&self, response: Response, unary: bool) -> Self::Settle;

    /// Judges an answer or an error by `classifier`.
    fn classify<C>(&self, classifier: &C, result: Result<&Self::Answer, &Error>) -> Outcome
    where
        C: Classify<Self::Answer, Error>,
    {
        classifier.classify(result)
    }

    /// What an answer or an error says to who would repeat the call.
    fn advice(&self, result: Result<&Self::Answer, &Error>) -> Advice;
}

/// What an answer or an error says to who would repeat the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Advice {
    /// Whether the call may have been executed.
    pub sent: Sent,
    /// What the server says about when to come back.
    pub pushback: Option<Pushback>,
    /// The gRPC status code, if there is one.
    pub status_code: Option<i32>,
    /// Whether a circuit breaker further in refused.
    pub is_open_circuit: bool,
}

impl Default for Advice {
    /// It may have been executed, and nothing else is known.
    fn default() -> Self {
        Self { sent: Sent::Maybe, pushback: None, status_code: None, is_open_circuit: false }
    }
}

impl Advice {
    /// What a refusal by a layer further in says.
    #[must_use]
    pub fn of_rejection(rejection: &Rejection) -> Self {
        Self {
            sent: if rejection.was_sent() { Sent::Maybe } else { Sent::No },
            pushback: rejection.retry_after().map(Pushback::Wait),
            status_code: None,
            is_open_circuit: rejection.layer() == "circuitbreak",
        }
    }
}

/// Any request: the context travels by `X`, and errors say what a [`Rejection`] among them says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain<X = NoContext> {
    context: X,
}

impl<X> Plain<X> {
    /// Lets the context travel by `context`.
    #[must_use]
    pub const fn new(context: X) -> Self {
        Self { context }
    }
}

impl<Request, X: CarryContext<Request>> CarryContext<Request> for Plain<X> {
    fn context<'a>(&self, request: &'a Request) -> Option<&'a AttemptContext> {
        self.context.context(request)
    }

    fn set_context(&self, request: &mut Request, context: AttemptContext) {
        self.context.set_context(request, context);
    }

    fn carries(&self) -> bool {
        self.context.carries()
    }
}

impl<X, Request, Response, Error> Protocol<Request, Response, Error> for Plain<X>
where
    X: CarryContext<Request>,
    Error: 'static,
{
    type Answer = Response;
    type Settle = Ready<Response>;

    fn begin_attempt(&self, request: &mut Request, context: &AttemptContext, _previous: u32) {
        self.context.set_context(request, context.clone());
    }

    fn settle(&self, response: Response, _unary: bool) -> Ready<Response> {
        ready(response)
    }

    fn advice(&self, result: Result<&Response, &Error>) -> Advice {
        let rejection = result.err().and_then(Rejection::find_in);
        rejection.map_or_else(Advice::default, Advice::of_rejection)
    }
}
