//! A refusal as a gRPC status.

use std::sync::Arc;

use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

use super::{Rejection, RejectionKind};

/// `UNAVAILABLE`, `RESOURCE_EXHAUSTED` or `DEADLINE_EXCEEDED`, with the wait as gRPC's pushback
/// (`grpc-retry-pushback-ms`, gRFC A6). The rejection stays behind as the status's source.
impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Self {
        let code = match rejection.kind {
            RejectionKind::Unavailable => Code::Unavailable,
            RejectionKind::Exhausted => Code::ResourceExhausted,
            RejectionKind::DeadlineExceeded => Code::DeadlineExceeded,
        };
        let mut metadata = MetadataMap::new();
        if let Some(pushback_ms) = rejection.pushback_ms() {
            metadata.insert("grpc-retry-pushback-ms", MetadataValue::from(pushback_ms));
        }
        let mut status = Self::with_metadata(code, rejection.to_string(), metadata);
        status.set_source(Arc::new(rejection));
        status
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_refusal_becomes_a_status_with_pushback_and_is_found_again() {
        let rejection = Rejection::exhausted("ratelimit", "rate")
            .with_retry_after(Duration::from_micros(10_200));
        let status = Status::from(rejection.clone());

        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "call refused by ratelimit: rate; try again in 10.2ms");
        assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "11");
        assert_eq!(Rejection::find_in(&status), Some(&rejection));
    }
}
