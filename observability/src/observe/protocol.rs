use outrigger_core::{MethodRef, NameMethod};

use super::end::{ReadStatus, Status, of_error};

/// Reads from a request what an observer wants to know of it.
///
/// [`Plain`] knows nothing and fits any request; `Http` and `Grpc` (feature `http`) know their
/// requests. For a request type of your own, implement this and [`ReadStatus`] for a marker type.
pub trait Protocol<Request> {
    /// The method that `request` is for. Give a bounded set of names: a matched route, never a raw
    /// path. Default: none.
    fn method<'a>(&self, request: &'a Request) -> Option<MethodRef<'a>> {
        let _ = request;
        None
    }

    /// The number of the attempt within its call, from 0. Default: 0.
    fn attempt(&self, request: &Request) -> u32 {
        let _ = request;
        0
    }

    /// Where a trace context travels with `request`. Default: nowhere.
    fn carrier<'a>(&self, request: &'a mut Request) -> Option<&'a mut dyn Carrier> {
        let _ = request;
        None
    }
}

/// Headers or metadata that a trace context travels in.
pub trait Carrier {
    /// The value of `name`, if there is one that is text.
    fn get(&self, name: &'static str) -> Option<&str>;

    /// Puts `value` in the place of what `name` had. A value that cannot be sent is left out.
    fn set(&mut self, name: &'static str, value: &str);
}

/// Any request: no method, no system, nowhere for a context to travel. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain;

impl<Request> Protocol<Request> for Plain {}

/// A response says nothing; an error says whether a layer of ours refused the call.
impl<Response, Error: 'static> ReadStatus<Response, Error> for Plain {
    fn status(&self, result: Result<&Response, &Error>) -> Status {
        result.map_or_else(of_error, |_| Status::None)
    }
}

/// A protocol whose methods are named by somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named<P, N> {
    pub(super) protocol: P,
    pub(super) namer: N,
}

impl<Request, P, N> Protocol<Request> for Named<P, N>
where
    P: Protocol<Request>,
    N: NameMethod<Request>,
{
    fn method<'a>(&self, request: &'a Request) -> Option<MethodRef<'a>> {
        self.namer.name_method(request)
    }

    fn attempt(&self, request: &Request) -> u32 {
        self.protocol.attempt(request)
    }

    fn carrier<'a>(&self, request: &'a mut Request) -> Option<&'a mut dyn Carrier> {
        self.protocol.carrier(request)
    }
}

impl<Response, Error, P, N> ReadStatus<Response, Error> for Named<P, N>
where
    P: ReadStatus<Response, Error>,
{
    fn status(&self, result: Result<&Response, &Error>) -> Status {
        self.protocol.status(result)
    }

    #[cfg(feature = "http")]
    fn status_of_trailers(&self, head: Status, trailers: &::http::HeaderMap) -> Status {
        self.protocol.status_of_trailers(head, trailers)
    }
}

#[cfg(feature = "http")]
mod http;

#[cfg(feature = "http")]
pub use self::http::{Grpc, Http};
