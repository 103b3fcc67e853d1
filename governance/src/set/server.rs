use outrigger_ratelimit::{ConcurrencyLimitPolicy, RateLimitPolicy};

use crate::{
    Problem,
    document::{self, Table},
    problem::nearest,
};

/// What governs a whole server, whatever the method.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_field_names, reason = "named as in a file")]
pub struct ServerPolicy {
    concurrency_limit: Option<ConcurrencyLimitPolicy>,
    rate_limit: Option<RateLimitPolicy>,
    connection_limit: Option<u32>,
}

impl ServerPolicy {
    /// How many calls may run at once.
    #[must_use]
    pub const fn concurrency_limit(&self) -> Option<&ConcurrencyLimitPolicy> {
        self.concurrency_limit.as_ref()
    }

    /// How many calls may begin in a period.
    #[must_use]
    pub const fn rate_limit(&self) -> Option<&RateLimitPolicy> {
        self.rate_limit.as_ref()
    }

    /// How many connections may be open.
    #[must_use]
    pub const fn connection_limit(&self) -> Option<u32> {
        self.connection_limit
    }

    pub(super) fn read(settings: &Table, problems: &mut Vec<Problem>) -> Self {
        const KNOWN: [&str; 3] = ["concurrency_limit", "rate_limit", "connection_limit"];
        let mut policy = Self::default();
        for entry in &settings.entries {
            let field = format!("server.{}", entry.key);
            let result = match entry.key.as_str() {
                "concurrency_limit" => document::read(&entry.value, &field)
                    .map(|limit| policy.concurrency_limit = Some(limit)),
                "rate_limit" => document::read(&entry.value, &field)
                    .map(|limit| policy.rate_limit = Some(limit)),
                "connection_limit" => document::read(&entry.value, &field)
                    .map(|limit| policy.connection_limit = Some(limit)),
                _ => {
                    let problem = Problem::new(&entry.key_place, field, "is no setting here");
                    Err(problem.help(nearest(&entry.key, &KNOWN)))
                }
            };
            problems.extend(result.err());
        }
        policy
    }
}
