mod event;
mod future;
mod layer;
mod policy;
mod service;
mod source;

pub use self::{
    event::TimeoutEvent,
    future::TimeoutFuture,
    layer::TimeoutLayer,
    policy::{TimeoutPolicy, TimeoutPolicyBuilder},
    service::TimeoutService,
    source::{
        CarryDeadline, ChooseTimeout, FromRequest, InContext, NoDeadline, Now, PerMethodTimeout,
        ReadTimeout,
    },
};

#[cfg(feature = "http")]
pub use self::source::GrpcDeadline;
