//! The rules, pure: `now` is an argument, and what happened is given back or collected.

mod block;
mod clock;
mod ejection;
mod fleet;
mod latency;
mod load;
mod node;
mod outliers;
mod seat;
mod slow_start;
mod streak;
pub(crate) mod subset;
mod zone;

pub(crate) use self::{
    block::Block,
    clock::{Clock, LazyNow, Stamp},
    fleet::Fleet,
    load::Load,
    node::Node,
    seat::{Ending, Seat, Seated, Shown, Tally},
};
pub use self::{
    ejection::{EjectionPolicy, EjectionPolicyBuilder},
    slow_start::SlowStartPolicy,
    subset::SubsetPolicy,
    zone::ZonePolicy,
};
