//! The same work done by Outrigger and by its peers, in one run; and the bad days, simulated.
#![forbid(unsafe_code)]

fn main() {}
