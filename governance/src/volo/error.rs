use std::io;

use outrigger_core::{Rejection, RejectionKind};
use volo_thrift::{
    ApplicationException, ApplicationExceptionKind, ClientError, ServerError, TransportException,
};

/// What a stack over Volo ends with: the service's own error, or a refusal.
#[derive(Debug)]
pub(super) enum ThriftError<E> {
    Failed(E),
    Refused(Rejection),
}

impl<E> From<Rejection> for ThriftError<E> {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl<E> ThriftError<E> {
    pub(super) fn or_else(self, refused: impl FnOnce(Rejection) -> E) -> E {
        match self {
            Self::Failed(error) => error,
            Self::Refused(rejection) => refused(rejection),
        }
    }
}

/// The refusal in an error that a governed client gave; not in a clone of it, which Volo makes of
/// the text alone.
#[must_use]
pub fn rejection(error: &ClientError) -> Option<&Rejection> {
    let ClientError::Transport(transport) = error else { return None };
    transport.io_error().get_ref()?.downcast_ref()
}

/// The variant that holds any error, and never comes from a peer.
pub(super) fn client_error(rejection: Rejection) -> ClientError {
    let kind = match rejection.kind() {
        RejectionKind::Exhausted => io::ErrorKind::QuotaExceeded,
        RejectionKind::DeadlineExceeded => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    ClientError::Transport(TransportException::from(io::Error::new(kind, rejection)))
}

/// What Volo's own server makes of errors that are not the handler's.
pub(super) fn server_error(rejection: &Rejection) -> ServerError {
    let kind = ApplicationExceptionKind::INTERNAL_ERROR;
    ServerError::Application(ApplicationException::new(kind, rejection.to_string()))
}
