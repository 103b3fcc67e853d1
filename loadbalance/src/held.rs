use std::{fmt, marker::PhantomData};

use outrigger_core::{Classify, Complete, End, Outcome};

use crate::call::Call;

/// A call in flight on its endpoint; kept until the response, or its body, is over.
pub struct HeldCall<C, Response, Error> {
    call: Call,
    classify: C,
    /// What the head of the response was judged to be.
    head: Outcome,
    judges: PhantomData<fn(Response, Error)>,
}

impl<C, Response, Error> HeldCall<C, Response, Error> {
    pub(crate) const fn new(call: Call, classify: C) -> Self {
        Self { call, classify, head: Outcome::Success, judges: PhantomData }
    }

    pub(crate) fn endpoint_id(&self) -> u64 {
        self.call.endpoint_id()
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.call.is_removed()
    }

    pub(crate) fn show(&mut self) {
        self.call.show();
    }

    /// Takes the call back before it was sent.
    pub(crate) fn not_sent(self) -> Call {
        self.call
    }
}

impl<C: Classify<Response, Error>, Response, Error> HeldCall<C, Response, Error> {
    /// The head of the response is there.
    pub(crate) fn answered(mut self, response: &Response) -> Self {
        self.head = self.classify.classify(Ok(response));
        self
    }

    /// The call ended with an error.
    pub(crate) fn failed(self, error: &Error) {
        let outcome = self.classify.classify(Err(error));
        self.call.end(outcome);
    }
}

impl<C: Classify<Response, Error>, Response, Error> Complete for HeldCall<C, Response, Error> {
    fn complete(self, end: End<'_>) {
        #[cfg(feature = "orca")]
        if let End::Trailers(trailers) = end {
            self.call.report(trailers);
        }
        let outcome = match end {
            #[cfg(feature = "http")]
            End::Trailers(trailers) => self.classify.classify_trailers(self.head, trailers),
            // A body that breaks off is the endpoint's failure, whatever its head said.
            End::BodyFailed => Outcome::Failure,
            // What the caller has not read says nothing beyond the head; if that was good, the
            // rest is unknown.
            End::BodyDropped if self.head == Outcome::Success => return,
            _ => self.head,
        };
        self.call.end(outcome);
    }
}

impl<C, Response, Error> fmt::Debug for HeldCall<C, Response, Error> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldCall").field("call", &self.call).finish_non_exhaustive()
    }
}
