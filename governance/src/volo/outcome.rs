use std::{
    future::{Ready, ready},
    io,
};

use outrigger_core::{AttemptContext, CarryContext, Classify, ErrorsAreFailures, Outcome};
use outrigger_retry::{Advice, Protocol, Sent};
use volo_thrift::{ApplicationExceptionKind, ClientError, ServerError};

use super::{
    attempt::Answer,
    call::{Call, InCall},
    error::ThriftError,
};

/// Judges a Thrift call by its answer. The default of Volo's clients.
///
/// An answer is a success, also one with an exception that the IDL declares, and so is a business
/// error: the server did its work (as in Kitex). An application exception that says that the request
/// was wrong is ignored: an unknown method, an unsupported protocol, a failed validation. Everything
/// else is a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThriftOutcome;

impl<Response> Classify<Response, ClientError> for ThriftOutcome {
    fn classify(&self, result: Result<&Response, &ClientError>) -> Outcome {
        match result {
            Ok(_) | Err(ClientError::Biz(_)) => Outcome::Success,
            Err(ClientError::Application(exception)) if is_callers(exception.kind()) => {
                Outcome::Ignored
            }
            Err(_) => Outcome::Failure,
        }
    }
}

/// Whether the exception is the caller's own mistake.
const fn is_callers(kind: ApplicationExceptionKind) -> bool {
    matches!(
        kind,
        ApplicationExceptionKind::UNKNOWN_METHOD
            | ApplicationExceptionKind::INVALID_MESSAGE_TYPE
            | ApplicationExceptionKind::INVALID_TRANSFORM
            | ApplicationExceptionKind::INVALID_PROTOCOL
            | ApplicationExceptionKind::UNSUPPORTED_CLIENT_TYPE
            | ApplicationExceptionKind::VALIDATION_FAILED
    )
}

/// Lets a classifier of Volo's answers and errors judge what a stack over them gives.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Judge<C>(pub(super) C);

impl<R, E, C: Classify<R, E>> Classify<Answer<R>, ThriftError<E>> for Judge<C> {
    fn classify(&self, result: Result<&Answer<R>, &ThriftError<E>>) -> Outcome {
        match result {
            Ok(answer) => self.0.classify(Ok(&answer.response)),
            Err(ThriftError::Failed(error)) => self.0.classify(Err(error)),
            Err(ThriftError::Refused(rejection)) => {
                ErrorsAreFailures.classify(Err::<&(), _>(rejection))
            }
        }
    }
}

/// Judges what a server's handler did, as [`ThriftOutcome`] judges it from afar: what an adaptive
/// limit learns from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Handled;

impl<Response> Classify<Response, ThriftError<ServerError>> for Handled {
    fn classify(&self, result: Result<&Response, &ThriftError<ServerError>>) -> Outcome {
        match result {
            Ok(_) | Err(ThriftError::Failed(ServerError::Biz(_))) => Outcome::Success,
            Err(ThriftError::Failed(ServerError::Application(exception)))
                if is_callers(exception.kind()) =>
            {
                Outcome::Ignored
            }
            Err(ThriftError::Failed(_)) => Outcome::Failure,
            Err(ThriftError::Refused(rejection)) => {
                ErrorsAreFailures.classify(Err::<&(), _>(rejection))
            }
        }
    }
}

/// What requests and errors of Thrift say of retries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Thrift;

impl<Req> CarryContext<Call<Req>> for Thrift {
    fn context<'a>(&self, call: &'a Call<Req>) -> Option<&'a AttemptContext> {
        InCall.context(call)
    }

    fn set_context(&self, call: &mut Call<Req>, context: AttemptContext) {
        InCall.set_context(call, context);
    }

    /// Volo's balancer asks nobody which endpoints were tried, so no list of them is made.
    fn carries(&self) -> bool {
        false
    }
}

impl<Req, R> Protocol<Call<Req>, Answer<R>, ThriftError<ClientError>> for Thrift {
    type Answer = Answer<R>;
    type Settle = Ready<Answer<R>>;

    fn begin_attempt(&self, call: &mut Call<Req>, context: &AttemptContext, _: u32) {
        InCall.set_context(call, context.clone());
    }

    fn settle(&self, answer: Answer<R>, _unary: bool) -> Self::Settle {
        ready(answer)
    }

    fn advice(&self, result: Result<&Answer<R>, &ThriftError<ClientError>>) -> Advice {
        match result {
            Err(ThriftError::Refused(rejection)) => Advice::of_rejection(rejection),
            // Nothing but connecting ends like this.
            Err(ThriftError::Failed(ClientError::Transport(error)))
                if error.kind() == io::ErrorKind::ConnectionRefused =>
            {
                let mut advice = Advice::default();
                advice.sent = Sent::No;
                advice
            }
            _ => Advice::default(),
        }
    }
}
