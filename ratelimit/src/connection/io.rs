use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use outrigger_core::Observe;
use pin_project::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limit::{BeyondLimit, ConnectionLimit};
use crate::{Acquire, ConcurrencyLimitEvent, Permit};

/// A connection that has a place. Dropping it gives the place back.
#[pin_project]
pub struct LimitedIo<Io, O = ()> {
    #[pin]
    io: Io,
    _permit: Permit<O>,
}

impl<Io, O> LimitedIo<Io, O> {
    pub(super) const fn new(io: Io, permit: Permit<O>) -> Self {
        Self { io, _permit: permit }
    }

    /// The connection.
    pub const fn get_ref(&self) -> &Io {
        &self.io
    }
}

impl<Io: AsyncRead, O> AsyncRead for LimitedIo<Io, O> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().io.poll_read(cx, buffer)
    }
}

impl<Io: AsyncWrite, O> AsyncWrite for LimitedIo<Io, O> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write(cx, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write_vectored(cx, buffers)
    }
}

#[cfg(feature = "tonic")]
impl<Io, O> tonic::transport::server::Connected for LimitedIo<Io, O>
where
    Io: tonic::transport::server::Connected,
{
    type ConnectInfo = Io::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl<Io, O> fmt::Debug for LimitedIo<Io, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedIo").finish_non_exhaustive()
    }
}

/// Accepted connections, no more at once than the limit allows. Made by
/// [`ConnectionLimit::incoming`].
///
/// # Cancel safety
///
/// Dropping it gives back a place that no connection has taken yet.
#[pin_project]
pub struct IncomingConnections<St: Stream, O = ()> {
    #[pin]
    stream: St,
    limit: ConnectionLimit<O>,
    /// While a place is waited for.
    #[pin]
    acquire: Option<Acquire<O>>,
    /// A place for the next connection, taken before it is accepted.
    permit: Option<Permit<O>>,
    /// Was accepted, and is about to have a place, to wait for one or to be refused.
    accepted: Option<St::Item>,
}

impl<St: Stream, O> IncomingConnections<St, O> {
    pub(super) const fn new(stream: St, limit: ConnectionLimit<O>) -> Self {
        Self { stream, limit, acquire: None, permit: None, accepted: None }
    }
}

impl<St, Io, E, O> Stream for IncomingConnections<St, O>
where
    St: Stream<Item = Result<Io, E>>,
    O: Observe<ConcurrencyLimitEvent>,
{
    type Item = Result<LimitedIo<Io, O>, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            let is_wanted = this.accepted.is_some() || this.limit.beyond() == BeyondLimit::Wait;
            if this.permit.is_none() && this.acquire.is_none() && is_wanted {
                this.acquire.set(Some(this.limit.acquire()));
            }
            if let Some(acquire) = this.acquire.as_mut().as_pin_mut() {
                *this.permit = ready!(acquire.poll(cx)).ok();
                this.acquire.set(None);
            }
            if let Some(Ok(io)) = this.accepted.take() {
                match this.permit.take() {
                    Some(permit) => return Poll::Ready(Some(Ok(LimitedIo::new(io, permit)))),
                    // Refused: dropping the connection closes it.
                    None => continue,
                }
            }
            match ready!(this.stream.as_mut().poll_next(cx)) {
                Some(Ok(io)) => *this.accepted = Some(Ok(io)),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<St: Stream, O> fmt::Debug for IncomingConnections<St, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingConnections").field("limit", &self.limit).finish_non_exhaustive()
    }
}
