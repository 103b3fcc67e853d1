#![doc = "Governance for any tower service: one policy per method, changed while traffic flows."]
#![forbid(unsafe_code)]

mod document;
mod event;
mod fallback;
mod follow;
mod governance;
mod method;
mod problem;
mod set;
mod stack;
mod state;

pub use event::{ObserveGovernance, PolicyEvent};
pub use fallback::{FallbackFuture, FallbackLayer, FallbackService};
pub use follow::PolicyFile;
pub use governance::Governance;
pub use method::{Explained, MethodPolicy, ServicePolicy};
pub use problem::{InvalidPolicies, Problem};
pub use set::{Format, KitexConfig, LoadError, PolicySet, ServerPolicy};
pub use stack::{
    AnyRequest, AttemptStack, ClientLayer, ClientStack, Enter, Governed, Inner, Leave, OfAttempt,
    OfCall, OfMethod, OfServer, ServerLayer, ServerStack, Wire,
};
#[cfg(feature = "http")]
pub use stack::{GrpcWire, HttpWire};
#[cfg(feature = "tonic")]
pub use stack::{LeaveForTonic, TonicWire};
pub use state::MethodState;
