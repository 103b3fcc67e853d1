mod attempt;
mod choose;
mod codes;
mod engine;
mod event;
mod future;
mod handle;
mod layer;
mod learn;
mod policy;
mod protocol;
mod race;
mod service;
mod spare;

pub use self::{
    choose::{ChooseRetry, CurrentRetry, MethodRetries, OneRetry},
    codes::GrpcCodes,
    event::{AttemptKind, RetryEvent, StopReason},
    future::RetryFuture,
    handle::{Retry, RetryBuilder},
    layer::RetryLayer,
    policy::{BackupDelay, RetryMode, RetryPolicy, RetryPolicyBuilder},
    protocol::{Advice, Plain, Protocol},
    service::RetryService,
};

#[cfg(feature = "http")]
pub use self::protocol::{Grpc, Http};
#[cfg(feature = "http")]
pub(crate) use self::protocol::{PREVIOUS_ATTEMPTS, RETRY_MARK};
