use std::sync::Arc;

use crate::hash::{HashKey, mix};

/// Uses only a part of a very large fleet, so that connections do not grow with callers times
/// endpoints.
///
/// Both ways are deterministic, and independent of the order in which endpoints are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsetPolicy {
    pub(crate) size: usize,
    pub(crate) caller: Caller,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Index(u32),
    Name(Arc<str>),
}

impl SubsetPolicy {
    /// For callers that are numbered from 0, such as the pods of a stateful set. The endpoints
    /// stand on a circle in the order of their hashes, each caller takes `size` in a row, and the
    /// rows of successive callers are spread evenly (van der Corput's sequence): no endpoint has
    /// many more callers than another. One endpoint more or less changes at most two of a subset.
    #[must_use]
    pub const fn by_index(index: u32, size: usize) -> Self {
        Self { size, caller: Caller::Index(index) }
    }

    /// For callers that only have a name: the `size` endpoints of highest random weight for it
    /// (rendezvous hashing; gRPC's A68). One endpoint more or less changes at most one of a
    /// subset; the number of callers per endpoint varies as by chance.
    #[must_use]
    pub fn by_name(name: impl Into<Arc<str>>, size: usize) -> Self {
        Self { size, caller: Caller::Name(name.into()) }
    }

    /// The positions in `ids` that belong to the subset, in ascending order.
    pub(crate) fn choose(&self, ids: &[u64]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        if ids.len() <= self.size {
            return order;
        }
        match &self.caller {
            Caller::Index(index) => {
                order.sort_unstable_by_key(|&at| (mix(ids[at]), ids[at]));
                let start = u64::from(index.reverse_bits()) * ids.len() as u64;
                order.rotate_left((start >> 32) as usize);
            }
            Caller::Name(name) => {
                let caller = HashKey::of(&**name).get();
                order.sort_unstable_by_key(|&at| (mix(ids[at] ^ caller), ids[at]));
            }
        }
        order.truncate(self.size);
        order.sort_unstable();
        order
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ids(n: u64) -> Vec<u64> {
        (0..n).map(|n| HashKey::of(n.to_string()).get()).collect()
    }

    fn chosen(policy: &SubsetPolicy, ids: &[u64]) -> BTreeSet<u64> {
        policy.choose(ids).into_iter().map(|at| ids[at]).collect()
    }

    #[test]
    fn numbered_callers_load_all_endpoints_alike() {
        let ids = ids(300);
        let mut callers = vec![0_u32; 300];
        for caller in 0..100 {
            SubsetPolicy::by_index(caller, 30).choose(&ids).iter().for_each(|&at| callers[at] += 1);
        }
        // 100 callers times 30 over 300 endpoints: 10 each.
        let (least, most) = (callers.iter().min().unwrap(), callers.iter().max().unwrap());
        assert!(*least >= 8 && *most <= 12, "{least} to {most}");
    }

    #[test]
    fn one_endpoint_less_changes_at_most_two_of_a_subset_or_one_by_name() {
        let all = ids(300);
        for caller in 0..50 {
            let by_index = SubsetPolicy::by_index(caller, 30);
            let by_name = SubsetPolicy::by_name(format!("caller-{caller}"), 30);
            for (policy, most) in [(by_index, 2), (by_name, 1)] {
                let before = chosen(&policy, &all);
                for gone in 0..20 {
                    let mut left = all.clone();
                    left.remove(gone * 7);
                    let changed = chosen(&policy, &left).difference(&before).count();
                    assert!(changed <= most, "{changed} changed");
                }
            }
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter_and_small_fleets_are_used_whole() {
        let mut all = ids(40);
        let policy = SubsetPolicy::by_index(3, 10);
        let before = chosen(&policy, &all);
        all.reverse();
        assert_eq!(chosen(&policy, &all), before);
        assert_eq!(SubsetPolicy::by_index(3, 40).choose(&all).len(), 40);
    }
}
