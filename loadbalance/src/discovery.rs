//! Where endpoints come from.

#[cfg(feature = "dns")]
mod dns;
mod driver;
#[cfg(feature = "file")]
mod file;
mod resolver;
#[cfg(feature = "discover")]
mod stream;

#[cfg(feature = "dns")]
pub use self::dns::DnsResolver;
#[cfg(feature = "file")]
pub use self::file::{FileResolver, MalformedFile};
#[cfg(feature = "discover")]
pub use self::stream::follow;
pub use self::{
    driver::Discovery,
    resolver::{Difference, Resolution, ResolveError, Resolver, StaticResolver},
};
