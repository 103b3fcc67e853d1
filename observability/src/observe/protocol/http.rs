use http::{HeaderMap, HeaderValue, Request, Response};
use outrigger_core::{CarryContext, GrpcPath, InExtensions, MethodRef, NameMethod};

use super::{Carrier, Protocol};
use crate::observe::end::{ReadStatus, Status, of_error};

/// Requests of HTTP: the status of the response, and headers for a trace context.
///
/// It names no method, since a raw path is no bounded name:
/// [`name_methods`](crate::ObserveLayer::name_methods) says how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Http;

/// Requests of gRPC: the method from the path, `grpc-status` from the head or the trailers.
///
/// With the feature `tonic` also a `tonic::Request`, and the status of an error that is a
/// `tonic::Status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grpc;

impl Carrier for HeaderMap {
    fn get(&self, name: &'static str) -> Option<&str> {
        self.get(name)?.to_str().ok()
    }

    fn set(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.insert(name, value);
        }
    }
}

impl<B> Protocol<Request<B>> for Http {
    fn attempt(&self, request: &Request<B>) -> u32 {
        InExtensions.context(request).map_or(0, |context| context.number)
    }

    fn carrier<'a>(&self, request: &'a mut Request<B>) -> Option<&'a mut dyn Carrier> {
        Some(request.headers_mut())
    }
}

impl<B, Error: 'static> ReadStatus<Response<B>, Error> for Http {
    fn status(&self, result: Result<&Response<B>, &Error>) -> Status {
        result.map_or_else(of_error, |response| Status::Http(response.status().as_u16()))
    }
}

impl<B> Protocol<Request<B>> for Grpc {
    fn method<'a>(&self, request: &'a Request<B>) -> Option<MethodRef<'a>> {
        GrpcPath.name_method(request)
    }

    fn attempt(&self, request: &Request<B>) -> u32 {
        InExtensions.context(request).map_or(0, |context| context.number)
    }

    fn carrier<'a>(&self, request: &'a mut Request<B>) -> Option<&'a mut dyn Carrier> {
        Some(request.headers_mut())
    }
}

impl<B, Error: 'static> ReadStatus<Response<B>, Error> for Grpc {
    /// A head without `grpc-status` says nothing yet, unless it is no HTTP success: that is a
    /// proxy's answer.
    fn status(&self, result: Result<&Response<B>, &Error>) -> Status {
        match result {
            Ok(response) => match of_headers(response.headers()) {
                None if !response.status().is_success() => of_http(response.status().as_u16()),
                status => status.unwrap_or_default(),
            },
            Err(error) => of_grpc_error(error),
        }
    }

    fn status_of_trailers(&self, head: Status, trailers: &HeaderMap) -> Status {
        of_headers(trailers).unwrap_or(head)
    }
}

fn of_headers(headers: &HeaderMap) -> Option<Status> {
    let status = headers.get("grpc-status")?.to_str().ok();
    Some(Status::grpc(status.and_then(|code| code.parse().ok()).unwrap_or(-1)))
}

/// gRPC's own table for answers that are not gRPC's (`http-grpc-status-mapping.md`).
fn of_http(status: u16) -> Status {
    Status::grpc(match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    })
}

fn of_grpc_error<Error: 'static>(error: &Error) -> Status {
    let status = of_error(error);
    #[cfg(feature = "tonic")]
    if matches!(status, Status::Error("_OTHER"))
        && let Some(error) = (error as &dyn std::any::Any).downcast_ref::<tonic::Status>()
    {
        return Status::grpc(error.code().into());
    }
    status
}

#[cfg(feature = "tonic")]
mod tonic_request {
    use super::{Carrier, CarryContext, Grpc, InExtensions, MethodRef, Protocol};

    impl Carrier for tonic::metadata::MetadataMap {
        fn get(&self, name: &'static str) -> Option<&str> {
            self.get(name)?.to_str().ok()
        }

        fn set(&mut self, name: &'static str, value: &str) {
            if let Ok(value) = value.parse() {
                self.insert(name, value);
            }
        }
    }

    impl<T> Protocol<tonic::Request<T>> for Grpc {
        /// As tonic's generated clients say it.
        fn method<'a>(&self, request: &'a tonic::Request<T>) -> Option<MethodRef<'a>> {
            let method = request.extensions().get::<tonic::GrpcMethod<'static>>()?;
            Some(MethodRef { service: method.service(), method: method.method() })
        }

        fn attempt(&self, request: &tonic::Request<T>) -> u32 {
            InExtensions.context(request).map_or(0, |context| context.number)
        }

        fn carrier<'a>(&self, request: &'a mut tonic::Request<T>) -> Option<&'a mut dyn Carrier> {
            Some(request.metadata_mut())
        }
    }
}
