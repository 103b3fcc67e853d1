use std::time::Duration;

use outrigger_core::{AttemptContext, Outcome};
use tokio::time::Instant;

use super::{AttemptKind, BackupDelay, RetryMode, RetryPolicy, StopReason, protocol::Advice};
use crate::{Pushback, QuantileDelay, Sent, Waits};

/// What one call has done and may still do: the rule, pure. Knows no service, no clock, no
/// observer.
///
/// The policy is given to each question, since it is shared by all calls and larger than the rest.
#[derive(Debug)]
pub(super) struct Plan {
    /// All attempts that were sent, or would have been in shadow.
    sent: u32,
    /// Those among them that count against `retries`.
    further: u32,
    was_transparent: bool,
    /// No further attempt for this reason, whatever comes.
    stop: Option<StopReason>,
    began: Option<Instant>,
    /// What all attempts say of their call, each with its own number. Here, since the deadline is
    /// the rule's too.
    pub(super) context: AttemptContext,
}

/// What an attempt's end means for its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the answer.
    Answer,
    /// It failed, and may be repeated.
    Failed,
    /// The peer did not process it: repeated for free.
    Unprocessed,
    /// It failed, and must not be repeated.
    Final(Option<StopReason>),
}

/// When a further attempt comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    AtOnce,
    For(Duration),
}

/// Whether it matters when an attempt began: only then is the clock read for it.
pub(super) const fn needs_start(policy: &RetryPolicy) -> bool {
    policy.max_duration().is_some() || policy.backup_delay().is_some()
}

impl Plan {
    pub(super) const fn new(policy: &RetryPolicy, context: AttemptContext) -> Self {
        let is_stopped = context.caller_is_retry && policy.chain_stop();
        let stop = if is_stopped { Some(StopReason::ChainStop) } else { None };
        Self { sent: 0, further: 0, was_transparent: false, stop, began: None, context }
    }

    /// Whether a further attempt is possible at all, and so the request worth keeping.
    pub(super) const fn may_repeat(&self, policy: &RetryPolicy) -> bool {
        self.stop.is_none() && policy.retries() > 0
    }

    pub(super) const fn begin(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// Counts an attempt, and says its number.
    pub(super) const fn count(&mut self, kind: AttemptKind) -> u32 {
        match kind {
            AttemptKind::First => {}
            AttemptKind::Retry | AttemptKind::Backup => self.further += 1,
            AttemptKind::Transparent => self.was_transparent = true,
        }
        self.sent += 1;
        self.sent - 1
    }

    /// The number that the next attempt will have.
    pub(super) const fn next_number(&self) -> u32 {
        self.sent
    }

    /// How many attempts were made before the next that the peer has to know of.
    pub(super) const fn previous(&self) -> u32 {
        if self.was_transparent { self.sent.saturating_sub(1) } else { self.sent }
    }

    /// Whether the next attempt is the last that can be.
    pub(super) const fn next_is_last(&self, kind: AttemptKind, policy: &RetryPolicy) -> bool {
        !matches!(kind, AttemptKind::Transparent) && self.further + 1 >= policy.retries()
    }

    pub(super) const fn stop(&mut self, reason: StopReason) {
        self.stop = Some(reason);
    }

    /// When a backup request is due, if one is to come: `after` is when the attempt before it went.
    pub(super) fn backup_at(
        &self,
        policy: &RetryPolicy,
        after: Instant,
        of_latencies: impl FnOnce(&QuantileDelay) -> Option<Duration>,
    ) -> Option<Instant> {
        let is_wanted = self.stop.is_none() && self.further < policy.retries();
        let delay = match policy.backup_delay().filter(|_| is_wanted)? {
            BackupDelay::Fixed(delay) => delay,
            BackupDelay::Quantile(quantile) => of_latencies(&quantile)?,
        };
        let at = after.checked_add(delay)?;
        self.is_in_time(policy, at).then_some(at)
    }

    /// Judges how an attempt ended.
    pub(super) fn judge(&self, policy: &RetryPolicy, outcome: Outcome, advice: &Advice) -> Verdict {
        if outcome == Outcome::Success {
            return Verdict::Answer;
        }
        match (policy.retryable_status_codes(), advice.status_code) {
            (Some(codes), Some(code)) if codes.contains(code) => return Verdict::Failed,
            (Some(_), Some(_)) if advice.sent == Sent::Maybe => return Verdict::Answer,
            _ => {}
        }
        match (advice.sent, outcome) {
            _ if advice.is_open_circuit => Verdict::Final(Some(StopReason::CircuitOpen)),
            (Sent::Refused, _) if !self.was_transparent => Verdict::Unprocessed,
            (Sent::Refused | Sent::No, _) => Verdict::Failed,
            (Sent::Maybe, Outcome::Success | Outcome::Ignored) => Verdict::Answer,
            (Sent::Maybe, Outcome::Timeout) if !policy.retries_timeouts() => Verdict::Final(None),
            (Sent::Maybe, _) if policy.is_idempotent() => Verdict::Failed,
            (Sent::Maybe, _) => Verdict::Final(Some(StopReason::NotIdempotent)),
        }
    }

    /// When the attempt after a failed one comes, or why there is none, if one was wanted.
    pub(super) fn wait_after_failure(
        &self,
        policy: &RetryPolicy,
        pushback: Option<Pushback>,
        waits: &mut Waits,
        now: impl FnOnce() -> Instant,
    ) -> Result<Wait, Option<StopReason>> {
        if let Some(reason) = self.stop {
            return Err(Some(reason));
        }
        if policy.mode() == RetryMode::Backup {
            return Err(None);
        }
        if self.further >= policy.retries() {
            return Err(Some(StopReason::MaxRetries));
        }
        let wait = match pushback {
            Some(Pushback::Wait(wait)) if wait <= policy.max_pushback() => {
                waits.restart();
                wait
            }
            Some(_) => return Err(Some(StopReason::Pushback)),
            None => waits.next_wait(),
        };
        // The clock is read only where something depends on it.
        if self.context.deadline.is_some() || policy.max_duration().is_some() {
            let at = now().checked_add(wait).ok_or(Some(StopReason::NoTimeLeft))?;
            if !self.is_in_time(policy, at) {
                return Err(Some(StopReason::NoTimeLeft));
            }
        }
        Ok(if wait.is_zero() { Wait::AtOnce } else { Wait::For(wait) })
    }

    /// Whether an attempt that is sent at `at` still makes sense.
    fn is_in_time(&self, policy: &RetryPolicy, at: Instant) -> bool {
        let is_early = |deadline: Instant| {
            deadline.saturating_duration_since(at)
                >= policy.min_time_left().max(Duration::from_nanos(1))
        };
        let is_short = match (self.began, policy.max_duration()) {
            (Some(began), Some(most)) => at.saturating_duration_since(began) < most,
            _ => true,
        };
        is_short && self.context.deadline.is_none_or(is_early)
    }
}
