mod at_hand;
mod call;
mod end;
mod future;
mod layer;
mod protocol;
mod resent;
mod series;
mod service;

#[cfg(feature = "http")]
pub use self::protocol::{Grpc, Http};
#[cfg(feature = "retry")]
pub(crate) use self::resent::Resent;
pub use self::{
    call::PendingCall,
    end::{CallEnd, CallOutcome, ReadStatus, Status},
    future::ObserveFuture,
    layer::{ObserveLayer, Side},
    protocol::{Carrier, Named, Plain, Protocol},
    service::ObserveService,
};
