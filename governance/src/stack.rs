//! The layers of a client and of a server, in the order that ARCHITECTURE.md explains.

mod client;
mod enter;
mod envelope;
mod limit;
#[cfg(feature = "observability")]
mod observed;
mod server;
mod wire;

#[cfg(feature = "observability")]
pub use self::observed::{ObservedBy, ObservedWire};
#[cfg(feature = "http")]
pub use self::wire::{GrpcWire, HttpWire};
pub use self::{
    client::{AttemptStack, ClientLayer, ClientStack},
    enter::{Enter, EnterFuture, HoldContext, Leave, LeaveFuture},
    envelope::{
        Envelope, Governed, InEnvelope, Inner, KeptGoverned, OfAttempt, OfCall, OfMethod,
        WithRequest,
    },
    limit::{EitherLimit, EitherPermit, EitherWait},
    server::{OfServer, ServerLayer, ServerStack},
    wire::{AnyRequest, Wire},
};
#[cfg(feature = "tonic")]
pub use self::{
    enter::LeaveForTonic,
    wire::{TonicChannelWire, TonicWire},
};
