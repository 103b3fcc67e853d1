use std::{
    error::Error,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use pin_project::pin_project;
use tokio::net::TcpStream;
use tonic::{
    Status,
    body::Body,
    transport::{Channel, Endpoint, channel},
};
use tower_service::Service;

use super::{Connect, ConnectFailed, Lazy};

/// An endpoint that connects a [`tonic::transport::Channel`] when it is first needed.
///
/// Unlike a channel that is made with `connect_lazy`, it connects before it takes a request, and
/// knows when its connection is gone: then it connects again, and a balancer goes elsewhere when
/// that fails.
pub type TonicEndpoint = Lazy<TonicConnect>;

impl TonicEndpoint {
    /// Connects to `endpoint` over TCP, with the TLS and the limits that it is set up with.
    #[must_use]
    pub fn of(endpoint: Endpoint) -> Self {
        Self::new(endpoint.uri().to_string(), TonicConnect { endpoint })
    }
}

/// Connects [`TonicEndpoint`]s.
#[derive(Clone, Debug)]
pub struct TonicConnect {
    endpoint: Endpoint,
}

impl Connect for TonicConnect {
    type Service = TonicChannel;

    fn connect(
        &self,
    ) -> impl Future<Output = Result<TonicChannel, Box<dyn Error + Send + Sync>>> + Send + 'static
    {
        let endpoint = self.endpoint.clone();
        async move {
            let is_open = Arc::new(AtomicBool::new(true));
            let channel = endpoint.connect_with_connector(Tcp(Arc::clone(&is_open))).await?;
            Ok(TonicChannel { channel, is_open })
        }
    }

    fn is_closed(&self, service: &TonicChannel) -> bool {
        !service.is_open.load(Ordering::Relaxed)
    }
}

/// A connected channel whose errors are [`Status`], into which a refusal can be turned.
#[derive(Clone, Debug)]
pub struct TonicChannel {
    channel: Channel,
    is_open: Arc<AtomicBool>,
}

impl Service<Request<Body>> for TonicChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = TonicFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.channel.poll_ready(cx).map_err(to_status)
    }

    fn call(&mut self, request: Request<Body>) -> TonicFuture {
        TonicFuture { future: self.channel.call(request) }
    }
}

fn to_status(error: tonic::transport::Error) -> Status {
    match Status::try_from_error(Box::new(error)) {
        Ok(status) => status,
        Err(error) => {
            let mut status = Status::unavailable(error.to_string());
            status.set_source(error.into());
            status
        }
    }
}

impl From<ConnectFailed> for Status {
    fn from(failed: ConnectFailed) -> Self {
        let mut status = Self::unavailable(failed.to_string());
        status.set_source(Arc::new(failed));
        status
    }
}

/// The life of one call on a [`TonicChannel`].
#[pin_project]
#[derive(Debug)]
pub struct TonicFuture {
    #[pin]
    future: channel::ResponseFuture,
}

impl Future for TonicFuture {
    type Output = Result<Response<Body>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map_err(to_status)
    }
}

/// Opens a TCP connection, the only one of its channel; a second one is refused, so that a channel
/// does not reconnect behind the back of its endpoint.
struct Tcp(Arc<AtomicBool>);

impl Service<Uri> for Tcp {
    type Response = TokioIo<Watched>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Watched>>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::NotConnected, "the connection is gone")))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let is_open = Arc::clone(&self.0);
        // Boxed: once for each connection, never for a call.
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let is_tls = uri.scheme_str() == Some("https");
            let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(Watched { stream, is_open }))
        })
    }
}

/// A TCP connection that says when it is gone.
struct Watched {
    stream: TcpStream,
    is_open: Arc<AtomicBool>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.is_open.store(false, Ordering::Relaxed);
    }
}

impl tokio::io::AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl tokio::io::AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
