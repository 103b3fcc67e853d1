//! What Outrigger's examples share: a scenario, a load, a report, and a small gRPC service.
//!
//! Each of these starts three real servers on ports that the system gives, lets them suffer, and
//! sends them the same calls at the same moments with and without protection; what came of it is
//! printed side by side.
//!
//! | example | transport | what protects |
//! | --- | --- | --- |
//! | `quickstart` | gRPC, with tonic | all layers, governed by `policies.toml` |
//! | `quickstart --scenario breaker` | gRPC | a circuit breaker for each server |
//! | `quickstart --scenario balance` | gRPC | a balancer, while a server goes and another comes |
//! | `quickstart --scenario tail` | gRPC | backup requests |
//! | `http` | HTTP, with an axum server and hyper-util's client | a circuit breaker for each server |
//! | `tcp` | a length-delimited protocol of its own, over TCP | the same |
//!
//! These show the composed stack of a `Governance` over one transport each, in a page of code:
//!
//! | example | transport |
//! | --- | --- |
//! | `tonic` | gRPC, client and server, governed by `policies.yaml` |
//! | `axum` | an HTTP server |
//! | `hyper_client` | an HTTP client, hyper-util's |
//! | `reqwest` | the same with reqwest (feature `reqwest` of this crate) |
//! | `volo` | Thrift, client and server (feature `volo` of this crate) |
//!
//! Every example takes `--json` and `--help`, ends by itself, and ends with a status other than 0
//! when the layers did not do what they are there for.
//!
//! `quickstart --serve` goes on until Ctrl-C, with a live page of what governance does, and metrics.

#![forbid(unsafe_code)]

pub mod day;
pub mod fleet;
pub mod greeter;
pub mod serve;
pub mod tail;
#[cfg(feature = "volo")]
pub mod thrift;

mod load;
mod program;
mod promises;
mod report;
mod scenario;

#[cfg(doctest)]
mod readme;

pub use load::Answer;
pub use program::{Choice, Play, Told, run, run_for_ever};
pub use promises::Promises;
pub use report::{Chronicle, Report};
pub use scenario::{Health, SERVERS, Scenario};
