//! A clonable, lock-free balancer over any tower service.

#![forbid(unsafe_code)]

mod balance;
mod discovery;
mod endpoint;
mod engine;
mod event;
mod future;
mod hash;
mod held;
mod picker;
mod policy;
mod report;
mod service;
mod snapshot;
mod status;
mod sync;
mod transport;

pub use balance::{Balance, Picked};
#[cfg(feature = "dns")]
pub use discovery::DnsResolver;
#[cfg(feature = "discover")]
pub use discovery::follow;
pub use discovery::{Difference, Discovery, Resolution, ResolveError, Resolver, StaticResolver};
#[cfg(feature = "file")]
pub use discovery::{FileResolver, MalformedFile};
pub use endpoint::{Endpoint, EndpointInfo};
pub use engine::{
    EjectionPolicy, EjectionPolicyBuilder, SlowStartPolicy, SubsetPolicy, ZonePolicy,
};
pub use event::{BalanceEvent, EjectionRule, RefusedUpdate};
pub use future::BalanceFuture;
#[cfg(feature = "http")]
pub use hash::HeaderKey;
pub use hash::{HashBy, HashKey, NoKey};
pub use held::HeldCall;
pub use picker::{BuildPicker, Candidates, Pick, PickEntry};
pub use policy::{
    BalancePolicy, BalancePolicyBuilder, CustomPicker, Picker, ReportedPolicy, WithoutKey,
};
pub use report::LoadReport;
pub use service::BalanceService;
pub use status::{BalanceStatus, EndpointState, EndpointStatus};
pub use transport::{Connect, ConnectFailed, Lazy};
#[cfg(feature = "hyper")]
pub use transport::{HyperConnect, HyperEndpoint, HyperFuture, HyperService};
#[cfg(feature = "tonic")]
pub use transport::{TonicChannel, TonicConnect, TonicEndpoint, TonicFuture};
