//! What governed the last calls of a thread, at hand for its next ones.

use std::{
    any::Any,
    cell::RefCell,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use outrigger_core::MethodRef;

/// Tells one [`Governance`](crate::Governance) from all others of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u64);

impl Id {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// A method has its place by its name, so that methods that take turns rarely drive each other
    /// out. Not by all of the name, which would cost more than it saves: by what tells `a.Cart/Get`
    /// from `b.User/Get`, and `CreateOrder` from `CancelOrder`.
    #[expect(clippy::cast_possible_truncation, reason = "any place will do")]
    fn place_of(self, name: MethodRef<'_>) -> usize {
        let (service, method) = (name.service.as_bytes(), name.method.as_bytes());
        let mut place = (self.0 as u8).wrapping_add(method.len() as u8);
        if let [.., of_service] = service
            && let [first, .., last] = method
        {
            let middle = method[method.len() / 2];
            for letter in [*of_service, *first, middle, *last] {
                place = place.wrapping_add(letter);
            }
        }
        usize::from(place) % PLACES
    }
}

/// Not what keeps a state alive: a policy that is taken back is gone when its last call is over.
struct Found {
    governance: Id,
    state: Weak<dyn Any + Send + Sync>,
}

const PLACES: usize = 16;

std::thread_local! {
    static FOUND: RefCell<[Option<Found>; PLACES]> = const { RefCell::new([const { None }; PLACES]) };
}

/// What this thread found last at the place of `name`: perhaps of another method, and perhaps out
/// of date.
#[inline]
pub(crate) fn last_found<T>(governance: Id, name: MethodRef<'_>) -> Option<Arc<T>>
where
    T: Send + Sync + 'static,
{
    let state = FOUND.try_with(|found| {
        let found = found.try_borrow().ok()?;
        let found = found[governance.place_of(name)].as_ref();
        found.filter(|found| found.governance == governance)?.state.upgrade()
    });
    state.ok()??.downcast().ok()
}

/// Keeps it at hand for the next look-up of this thread.
#[cold]
pub(crate) fn keep<T>(governance: Id, name: MethodRef<'_>, state: &Arc<T>)
where
    T: Send + Sync + 'static,
{
    let state: Weak<T> = Arc::downgrade(state);
    let new = Found { governance, state };
    // A thread that is going down has no places left, and needs none.
    let _ = FOUND.try_with(|found| {
        if let Ok(mut found) = found.try_borrow_mut() {
            found[governance.place_of(name)] = Some(new);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Governance, MethodState, PolicySet};

    const GET: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Get" };

    #[test]
    fn what_was_kept_is_found_by_the_governance_that_kept_it_as_long_as_it_is_there() {
        let (ours, others) = (Id(0), Id(PLACES as u64));
        assert_eq!(ours.place_of(GET), others.place_of(GET), "else the place tells them apart");
        let state = Arc::new("state");
        assert_eq!(last_found::<&str>(ours, GET), None);
        keep(ours, GET, &state);
        assert!(Arc::ptr_eq(&last_found(ours, GET).unwrap(), &state));
        assert_eq!(last_found::<&str>(others, GET), None, "of another governance");
        assert_eq!(last_found::<u64>(ours, GET), None, "of another type");
        drop(state);
        assert_eq!(last_found::<&str>(ours, GET), None, "it was dropped");
    }

    #[test]
    fn a_look_up_leaves_at_hand_what_it_found_and_takes_it_from_there() {
        let set = PolicySet::parse("policies.yaml", "defaults: {timeout: 1s}", Format::Yaml);
        let governance = Governance::new(set.unwrap());
        let id = governance.shared.id;
        let state = governance.method(GET);
        let found = last_found::<MethodState>(id, GET).expect("left at hand");
        assert!(Arc::ptr_eq(&found, &state));
        // Of another governance with the same policies, so that it shows whence it was taken.
        let planted = Governance::new(governance.set().as_ref().clone()).method(GET);
        keep(id, GET, &planted);
        assert!(Arc::ptr_eq(&governance.method(GET), &planted));
    }

    #[test]
    fn methods_that_look_alike_have_places_of_their_own() {
        let named = |service, method| MethodRef { service, method };
        for (a, b) in [
            (named("a.Cart", "Get"), named("b.User", "Get")),
            (named("shop.Order", "CreateOrder"), named("shop.Order", "CancelOrder")),
            (named("shop.Cart", "Get"), named("shop.Cart", "Set")),
            (named("shop.Cart", "GetItem"), named("shop.Cart", "GetItems")),
        ] {
            assert_ne!(Id(0).place_of(a), Id(0).place_of(b), "{a:?} {b:?}");
        }
        // Names may be empty, and no place is beyond the last.
        assert!(Id(u64::MAX).place_of(named("", "")) < PLACES);
    }
}
