use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request::Parts,
};
use smallvec::SmallVec;

/// A request's head, to be made again.
///
/// Its headers are a list in place and no map, since most are dropped unread: to copy a map costs
/// two allocations.
#[derive(Debug)]
pub(super) struct KeptHead {
    method: Method,
    uri: Uri,
    version: Version,
    headers: SmallVec<[(HeaderName, HeaderValue); MOST_IN_PLACE]>,
    extensions: Extensions,
}

/// gRPC's own are two or three, and the call's metadata is often a token and the span's context.
const MOST_IN_PLACE: usize = 6;

impl KeptHead {
    pub(super) fn of(parts: &Parts) -> Self {
        let pair = |(name, value): (&HeaderName, &HeaderValue)| (name.clone(), value.clone());
        Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            headers: parts.headers.iter().map(pair).collect(),
            extensions: parts.extensions.clone(),
        }
    }

    /// A request with this head.
    pub(super) fn with<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = headers;
        *request.extensions_mut() = self.extensions.clone();
        request
    }
}
