//! So many connections at once.

mod io;
mod limit;
mod listener;
mod make;
mod policy;
mod weak;

pub use io::{IncomingConnections, LimitedIo};
pub use limit::{BeyondLimit, ConnectionLimit};
pub use listener::LimitedListener;
pub use make::{ConnectionLimitLayer, LimitedMakeFuture, LimitedMakeService, LimitedService};
pub use policy::ConnectionLimitPolicy;
pub use weak::WeakConnectionLimit;
