use outrigger_ratelimit::{
    AdaptiveLimitPolicy, ConcurrencyLimitPolicy, ConnectionLimitPolicy, RateLimitPolicy,
};

use crate::{Problem, document::Table, method::Reader};

/// What governs a whole server, whatever the method.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_field_names, reason = "named as in a file")]
pub struct ServerPolicy {
    connection_limit: Option<ConnectionLimitPolicy>,
    concurrency_limit: Option<ConcurrencyLimitPolicy>,
    adaptive_limit: Option<AdaptiveLimitPolicy>,
    rate_limit: Option<RateLimitPolicy>,
}

impl ServerPolicy {
    /// How many connections may be open.
    #[must_use]
    pub const fn connection_limit(&self) -> Option<&ConnectionLimitPolicy> {
        self.connection_limit.as_ref()
    }

    /// How many calls may run at once.
    #[must_use]
    pub const fn concurrency_limit(&self) -> Option<&ConcurrencyLimitPolicy> {
        self.concurrency_limit.as_ref()
    }

    /// How the number of calls is found that may run at once. Stands in the place of a concurrency
    /// limit.
    #[must_use]
    pub const fn adaptive_limit(&self) -> Option<&AdaptiveLimitPolicy> {
        self.adaptive_limit.as_ref()
    }

    /// How many calls may begin in a period.
    #[must_use]
    pub const fn rate_limit(&self) -> Option<&RateLimitPolicy> {
        self.rate_limit.as_ref()
    }

    pub(super) fn read(settings: &Table, problems: &mut Vec<Problem>) -> Self {
        let mut reader = Reader { settings, scope: "server", problems };
        let policy = Self {
            connection_limit: reader.policy("connection_limit"),
            concurrency_limit: reader.policy("concurrency_limit"),
            adaptive_limit: reader.policy("adaptive_limit"),
            rate_limit: reader.policy("rate_limit"),
        };
        reader.policy::<outrigger_core::Enforcement>("enforcement");
        reader.unknown(&super::SERVER);
        policy
    }
}
