#![doc = "Governance for any tower service: one policy per method, changed while traffic flows."]
#![forbid(unsafe_code)]

mod document;
mod method;
mod problem;
mod set;

pub use method::{Explained, MethodPolicy, ServicePolicy};
pub use problem::{InvalidPolicies, Problem};
pub use set::{Format, KitexConfig, LoadError, PolicySet, ServerPolicy};
