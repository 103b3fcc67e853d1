//! The rules, pure: `now` is an argument, and what happened is given back or collected.

mod clock;
mod ejection;
mod fleet;
mod latency;
mod node;
mod outliers;
mod seat;
mod slow_start;
pub(crate) mod subset;
mod zone;

pub(crate) use self::{
    clock::{Clock, LazyNow, Moment},
    fleet::Fleet,
    node::Node,
    seat::{Ending, Seat, Tally},
};
pub use self::{
    ejection::{EjectionPolicy, EjectionPolicyBuilder},
    slow_start::SlowStartPolicy,
    subset::SubsetPolicy,
    zone::ZonePolicy,
};
