use outrigger_retry::WeakRetryBudget;

use super::{Diagnose, Part, as_data, millis};
use crate::diagnosis::snapshot::BudgetRow;

impl Diagnose for WeakRetryBudget {
    fn snapshot(&self) -> Option<Part> {
        let budget = self.upgrade()?;
        let (policy_version, policy) = (budget.policy().version(), budget.policy().get());
        let seen = budget.snapshot();
        let allowed = policy.ratio().zip(policy.reserve()).map(|(ratio, reserve)| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "counts stay far below 2^52, and the ratio is a share"
            )]
            let share = (ratio * seen.calls as f64) as u64;
            share.saturating_add(reserve)
        });
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let left = allowed.map(|allowed| {
            allowed.saturating_sub(seen.attempts.saturating_add(seen.waiting)) as f64
        });
        let kind = match (allowed, seen.tokens) {
            (Some(_), _) => "ratio",
            (None, Some(_)) => "throttle",
            (None, None) => "unlimited",
        };
        Some(Part::Budget(BudgetRow {
            id: String::new(),
            part: 0,
            name: String::new(),
            kind,
            calls: seen.calls,
            attempts: seen.attempts,
            waiting: seen.waiting,
            allowed,
            left: left.or(seen.tokens),
            ratio: policy.ratio(),
            window_ms: policy.window().map(millis),
            policy_version,
            policy: as_data(&*policy),
        }))
    }
}
