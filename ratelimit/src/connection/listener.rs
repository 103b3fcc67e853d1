#[cfg(feature = "axum")]
use std::convert::Infallible;

use outrigger_core::Observe;

use super::{io::LimitedIo, limit::ConnectionLimit};
use crate::ConcurrencyLimitEvent;

/// A listener that has no more connections open at once than the limit allows. Made by
/// [`ConnectionLimit::listener`]. With the feature `axum` it goes into `axum::serve`.
#[derive(Debug)]
pub struct LimitedListener<L, O = ()> {
    listener: L,
    limit: ConnectionLimit<O>,
}

impl<L, O> LimitedListener<L, O> {
    pub(super) const fn new(listener: L, limit: ConnectionLimit<O>) -> Self {
        Self { listener, limit }
    }

    /// The listener.
    pub const fn get_ref(&self) -> &L {
        &self.listener
    }
}

impl<L, O: Observe<ConcurrencyLimitEvent>> LimitedListener<L, O> {
    /// Accepts the next connection that has a place, by the `accept` of the listener.
    ///
    /// # Errors
    ///
    /// Those of the listener.
    ///
    /// # Cancel safety
    ///
    /// As `accept`: a place that no connection has taken goes back. Where connections wait beyond
    /// the limit since a moment ago, the one that was accepted before may wait in the future, and is
    /// closed with it.
    pub async fn accept_with<Io, Addr, E>(
        &mut self,
        mut accept: impl AsyncFnMut(&mut L) -> Result<(Io, Addr), E>,
    ) -> Result<(LimitedIo<Io, O>, Addr), E> {
        loop {
            let ahead = self.limit.place_ahead().await;
            let (io, address) = accept(&mut self.listener).await?;
            let permit = match ahead {
                Some(permit) => Some(permit),
                // Waits only if the policy says so by now.
                None => self.limit.acquire().await.ok(),
            };
            if let Some(permit) = permit {
                return Ok((LimitedIo::new(io, permit), address));
            }
            // Refused: dropping the connection closes it.
            drop(io);
        }
    }
}

#[cfg(feature = "axum")]
impl<L, O> axum::serve::Listener for LimitedListener<L, O>
where
    L: axum::serve::Listener,
    O: Observe<ConcurrencyLimitEvent> + Send + Sync + 'static,
{
    type Io = LimitedIo<L::Io, O>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let accept = async |listener: &mut L| Ok::<_, Infallible>(listener.accept().await);
        match self.accept_with(accept).await {
            Ok(accepted) => accepted,
            Err(never) => match never {},
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
