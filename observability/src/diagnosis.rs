//! What governance does at this moment: as one snapshot, and as a small live page.

mod body;
mod control;
mod future;
mod handle;
mod parts;
mod recent;
mod service;
mod snapshot;
mod stream;
mod told;

pub use self::{
    body::DiagnosisBody,
    future::DiagnosisFuture,
    handle::Diagnosis,
    parts::{CannotChange, Change, Diagnose, Part},
    service::DiagnosisService,
    snapshot::{
        BalancerRow, BreakerRow, BudgetRow, EndpointRow, EventRow, LimitRow, Snapshot, StepRow,
        TripRow,
    },
};
