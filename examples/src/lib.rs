//! What Outrigger's examples share: a scenario, a load, a report, and a small gRPC service.
//!
//! Each example starts three real servers on ports that the system gives. One of them fails for a
//! while. Two clients send it the same calls at the same moments, one with a circuit breaker for
//! each server and one without; what came of it is printed side by side.
//!
//! | example | transport |
//! | --- | --- |
//! | `quickstart` | gRPC, with tonic |
//! | `http` | HTTP, with an axum server and hyper-util's client |
//! | `tcp` | a length-delimited protocol of its own, over TCP |
//!
//! `quickstart --scenario NAME` plays others; `--help` lists them. Every example takes `--json` and
//! `--help`, ends by itself, and ends with a status other than 0 when the breaker did not do what it
//! is there for.
//!
//! `quickstart --serve` goes on until Ctrl-C, with a live page of what governance does, and metrics.

#![forbid(unsafe_code)]

pub mod greeter;
pub mod serve;
pub mod tail;

mod load;
mod program;
mod report;
mod scenario;

#[cfg(doctest)]
mod readme;

pub use load::Answer;
pub use program::{Choice, Play, Told, run, run_for_ever};
pub use report::{Chronicle, Report};
pub use scenario::{Health, SERVERS, Scenario};
