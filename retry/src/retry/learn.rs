use outrigger_core::Moment;
use tokio::time::Instant;

use super::{BackupDelay, CurrentRetry};

/// Feeds the live quantile, where the policy waits by one.
pub(super) fn learn_latency<O>(retry: &CurrentRetry<O>, sent_at: Option<Instant>, end: LatencyOf) {
    let Some(BackupDelay::Quantile(_)) = retry.policy().backup_delay() else { return };
    let Some(sent_at) = sent_at else { return };
    let now = Moment::now();
    let latency = now.saturating_duration_since(sent_at);
    match end {
        LatencyOf::Whole => retry.retry().latencies().record(latency, now),
        LatencyOf::Cut => retry.retry().latencies().record_cut(latency, now),
    }
}

/// What a time says about the latency of an attempt.
#[derive(Clone, Copy)]
pub(super) enum LatencyOf {
    Whole,
    /// At least this long.
    Cut,
}
