use std::fmt;

use futures_core::Stream;
use outrigger_core::{InvalidPolicy, Live, Observe, Rejection};

use super::{
    io::IncomingConnections, listener::LimitedListener, policy::ConnectionLimitPolicy,
    weak::WeakConnectionLimit,
};
use crate::{
    Acquire, Asking, ConcurrencyLimit, ConcurrencyLimitEvent, ConcurrencyLimitPolicy, Permit,
};

/// What becomes of a connection beyond the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BeyondLimit {
    /// It is accepted and closed at once, so that the client knows (Kitex).
    #[default]
    Refuse,
    /// It is not accepted until another is closed: it waits in the system's backlog.
    Wait,
}

/// So many connections at once, shared by all clones of this handle: Kitex's `MaxConnections`.
///
/// A place is taken when a connection is accepted, and given back when the connection is dropped,
/// however it ended. Resizing keeps open connections open.
pub struct ConnectionLimit<O = ()> {
    places: ConcurrencyLimit<O>,
}

impl ConnectionLimit {
    /// At most `connections` at once.
    ///
    /// # Errors
    ///
    /// When `connections` is 0.
    pub fn new(connections: u32, beyond: BeyondLimit) -> Result<Self, InvalidPolicy> {
        Ok(Self::from_policy(ConnectionLimitPolicy::new(connections, beyond)?))
    }

    /// At most as many at once as `policy` says.
    #[must_use]
    pub fn from_policy(policy: ConnectionLimitPolicy) -> Self {
        Self { places: ConcurrencyLimit::builder(policy.places()).name("connections").build() }
    }

    /// Tells `observer` what the limit does. Makes the limit anew, so take handles after this.
    #[must_use]
    pub fn observe<O>(self, observer: O) -> ConnectionLimit<O>
    where
        O: Observe<ConcurrencyLimitEvent>,
    {
        ConnectionLimit { places: self.places.to_builder().observe(observer).build() }
    }
}

impl<O> ConnectionLimit<O> {
    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.places.in_flight()
    }

    /// How many connections wait to be accepted, where they wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.places.waiting()
    }

    /// The limit as a policy, to read or to replace: by [`ConnectionLimitPolicy::places`]. Those
    /// beyond the limit wait where its `max_waiting` is not 0.
    #[must_use]
    pub fn policy(&self) -> &Live<ConcurrencyLimitPolicy> {
        self.places.policy()
    }

    /// Acts by a replaced policy at once, rather than with the next connection: who waits is let in
    /// if there is room now, and closed if nobody may wait any more.
    pub fn refresh(&self) {
        self.places.refresh();
        if self.beyond() == BeyondLimit::Refuse {
            self.places.turn_away();
        }
    }

    /// A handle that does not keep the limit alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakConnectionLimit<O> {
        WeakConnectionLimit::new(&self.places)
    }

    pub(super) const fn from_places(places: ConcurrencyLimit<O>) -> Self {
        Self { places }
    }

    /// What becomes of a connection beyond the limit, as the policy has it now.
    pub(super) fn beyond(&self) -> BeyondLimit {
        match self.policy().load().max_waiting() {
            0 => BeyondLimit::Refuse,
            _ => BeyondLimit::Wait,
        }
    }
}

impl<O: Observe<ConcurrencyLimitEvent>> ConnectionLimit<O> {
    /// Limits a stream of accepted connections: for tonic's `serve_with_incoming`.
    pub fn incoming<St: Stream>(&self, stream: St) -> IncomingConnections<St, O> {
        IncomingConnections::new(stream, self.clone())
    }

    /// Limits a listener: for a hyper accept loop, and `axum::serve` with the feature `axum`.
    pub fn listener<L>(&self, listener: L) -> LimitedListener<L, O> {
        LimitedListener::new(listener, self.clone())
    }

    pub(super) fn try_acquire(&self) -> Result<Permit<O>, Rejection> {
        self.places.try_acquire()
    }

    pub(super) fn acquire(&self) -> Acquire<O> {
        self.places.acquire(Asking::default())
    }

    /// A place for the next connection, before it is accepted, where those beyond the limit wait.
    pub(super) async fn place_ahead(&self) -> Option<Permit<O>> {
        match self.beyond() {
            BeyondLimit::Wait => self.acquire().await.ok(),
            BeyondLimit::Refuse => None,
        }
    }
}

impl<O> Clone for ConnectionLimit<O> {
    fn clone(&self) -> Self {
        Self { places: self.places.clone() }
    }
}

impl<O> fmt::Debug for ConnectionLimit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLimit").field("places", &self.places).finish()
    }
}
