use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use http::{Request, Response, Uri, uri};
use http_body::Body;
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::TokioExecutor,
};
use pin_project::pin_project;
use tower_service::Service;

use super::{Connect, Lazy};

type BoxError = Box<dyn Error + Send + Sync>;

/// An endpoint over hyper's pooled client, which sends each request to one address.
///
/// hyper's client connects after it has taken the request. So before the first call, and after a
/// call that could not connect, the address is tried with a connection of its own: when that
/// fails, nothing was sent, and a balancer goes on to another endpoint.
pub type HyperEndpoint<B> = Lazy<HyperConnect<B>>;

impl<B> HyperEndpoint<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Sends plain HTTP requests to `authority`, `host:port`, whatever host their URI names. The
    /// `Host` header is that of the request, if it has one.
    #[must_use]
    pub fn of(authority: uri::Authority) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self::with_client(authority, client)
    }

    /// As [`of`](Self::of), over a client that is set up otherwise, and may be shared.
    #[must_use]
    pub fn with_client(authority: uri::Authority, client: Client<HttpConnector, B>) -> Self {
        let target = authority.to_string();
        Self::new(target, HyperConnect { authority, client })
    }
}

/// Tries the addresses of [`HyperEndpoint`]s.
#[derive(Debug)]
pub struct HyperConnect<B> {
    authority: uri::Authority,
    client: Client<HttpConnector, B>,
}

impl<B> Connect for HyperConnect<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Service = HyperService<B>;

    fn connect(&self) -> impl Future<Output = Result<HyperService<B>, BoxError>> + Send + 'static {
        let (authority, client) = (self.authority.clone(), self.client.clone());
        async move {
            let address = match authority.port_u16() {
                Some(_) => authority.as_str().to_owned(),
                None => format!("{}:80", authority.as_str()),
            };
            drop(tokio::net::TcpStream::connect(address).await?);
            Ok(HyperService { authority, client, can_connect: Arc::new(AtomicBool::new(true)) })
        }
    }

    fn is_closed(&self, service: &HyperService<B>) -> bool {
        !service.can_connect.load(Ordering::Relaxed)
    }
}

/// A client for one address that could be connected.
pub struct HyperService<B> {
    authority: uri::Authority,
    client: Client<HttpConnector, B>,
    can_connect: Arc<AtomicBool>,
}

impl<B> Clone for HyperService<B> {
    fn clone(&self) -> Self {
        Self {
            authority: self.authority.clone(),
            client: self.client.clone(),
            can_connect: Arc::clone(&self.can_connect),
        }
    }
}

impl<B> Service<Request<B>> for HyperService<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<hyper::body::Incoming>;
    type Error = BoxError;
    type Future = HyperFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> HyperFuture {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(uri::Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        if parts.path_and_query.is_none() {
            parts.path_and_query = Some(uri::PathAndQuery::from_static("/"));
        }
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        HyperFuture {
            future: self.client.request(request),
            can_connect: Arc::clone(&self.can_connect),
        }
    }
}

impl<B> fmt::Debug for HyperService<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HyperService").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// The life of one call on a [`HyperEndpoint`].
#[pin_project]
#[derive(Debug)]
pub struct HyperFuture {
    #[pin]
    future: ResponseFuture,
    can_connect: Arc<AtomicBool>,
}

impl Future for HyperFuture {
    type Output = Result<Response<hyper::body::Incoming>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        Poll::Ready(result.map_err(|error| {
            if error.is_connect() {
                this.can_connect.store(false, Ordering::Relaxed);
            }
            error.into()
        }))
    }
}
