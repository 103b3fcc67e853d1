//! Which calls may probe a circuit that is half open.

use std::num::NonZeroU64;

use super::window::saturating_ns;
use crate::CircuitBreakerPolicy;

/// The probes under way and those that succeeded.
#[derive(Debug, Default)]
pub(super) struct Probes {
    running: Vec<Probe>,
    /// Counts the probes that this circuit ever had; names them.
    admitted: u64,
    /// The probe interval has passed from then on.
    next_at_ns: u64,
    successes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    id: NonZeroU64,
    started_ns: u64,
    /// From then on another call may take its place.
    lost_at_ns: u64,
}

impl Probes {
    pub(super) fn restart(&mut self, policy: &CircuitBreakerPolicy) {
        self.clear();
        // All its memory at once, while no call waits for it.
        self.running.reserve(policy.max_probes() as usize);
        self.next_at_ns = 0;
        self.successes = 0;
    }

    /// Forgets the probes under way: what they bring counts for nothing any more.
    pub(super) fn clear(&mut self) {
        self.running.clear();
    }

    /// Takes the places of probes that ran over their limit. Says whether there were any.
    pub(super) fn drop_lost(&mut self, now_ns: u64) -> bool {
        let before = self.running.len();
        self.running.retain(|probe| now_ns < probe.lost_at_ns);
        self.running.len() < before
    }

    /// Gives a call a place as a probe, if there is one at `now_ns`.
    pub(super) fn admit(
        &mut self,
        policy: &CircuitBreakerPolicy,
        now_ns: u64,
    ) -> Option<NonZeroU64> {
        if now_ns < self.next_at_ns || self.is_full(policy) {
            return None;
        }
        self.admitted += 1;
        let id = NonZeroU64::new(self.admitted)?;
        let lost_at_ns = now_ns.saturating_add(saturating_ns(policy.probe_limit()));
        self.running.push(Probe { id, started_ns: now_ns, lost_at_ns });
        self.next_at_ns = now_ns.saturating_add(saturating_ns(policy.probe_interval()));
        Some(id)
    }

    /// From when on it is worth asking for a place.
    pub(super) fn gate_ns(&self, policy: &CircuitBreakerPolicy) -> u64 {
        let free_at_ns = if self.is_full(policy) {
            self.running.iter().map(|probe| probe.lost_at_ns).min().unwrap_or(0)
        } else {
            0
        };
        self.next_at_ns.max(free_at_ns)
    }

    /// Ends a probe and says when it started. `None` when it had lost its place: then its result
    /// counts for nothing.
    pub(super) fn end(&mut self, id: NonZeroU64) -> Option<u64> {
        let place = self.running.iter().position(|probe| probe.id == id)?;
        Some(self.running.swap_remove(place).started_ns)
    }

    /// When a probe under way started.
    pub(super) fn started_ns(&self, id: NonZeroU64) -> Option<u64> {
        self.running.iter().find(|probe| probe.id == id).map(|probe| probe.started_ns)
    }

    /// Lets the next call probe at once, in the place of one that told nothing.
    pub(super) fn skip_interval(&mut self) {
        self.next_at_ns = 0;
    }

    /// Counts a success. Says whether they are enough.
    pub(super) fn succeeded(&mut self, policy: &CircuitBreakerPolicy) -> bool {
        self.successes = self.successes.saturating_add(1);
        self.successes >= policy.successes_to_close()
    }

    fn is_full(&self, policy: &CircuitBreakerPolicy) -> bool {
        self.running.len() >= policy.max_probes() as usize
    }
}
