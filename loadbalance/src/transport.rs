//! Endpoint services that connect when they are first needed.

#[cfg(feature = "hyper")]
mod hyper;
mod lazy;
#[cfg(feature = "tonic")]
mod tonic;

#[cfg(feature = "hyper")]
pub use self::hyper::{HyperConnect, HyperEndpoint, HyperFuture, HyperService};
pub use self::lazy::{Connect, ConnectFailed, Lazy};
#[cfg(feature = "tonic")]
pub use self::tonic::{TonicChannel, TonicConnect, TonicEndpoint, TonicFuture};
