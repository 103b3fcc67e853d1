//! What governed the last calls of a thread, at hand for its next ones.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use outrigger_core::MethodRef;

use crate::MethodState;

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
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "any place will do")]
    pub(crate) fn place_of(self, name: MethodRef<'_>) -> Place {
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
        Place(place)
    }
}

/// One of the places that each thread has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u8);

const PLACES: usize = 16;

type AnyShare = Arc<dyn Any + Send + Sync>;

std::thread_local! {
    static AT_HAND: [Cell<Option<AnyShare>>; PLACES] = const { [const { Cell::new(None) }; PLACES] };
}

impl Place {
    /// What this thread has there, for the taking: perhaps of another method or governance, and
    /// perhaps out of date.
    #[inline]
    pub(crate) fn take<T: Send + Sync + 'static>(self) -> Option<Arc<T>> {
        // A thread that is going down has no places left, and needs none.
        AT_HAND.try_with(|at_hand| self.of(at_hand).take()).ok()??.downcast().ok()
    }

    /// Puts it there, unless something else has come there in the meantime.
    #[inline]
    fn put<T: Send + Sync + 'static>(self, state: Arc<T>) {
        let put = move |at_hand: &[Cell<_>; PLACES]| {
            let place = self.of(at_hand);
            // Taken out to be looked at: to replace it reads it as one, which waits for the two
            // writes before.
            let there = place.take();
            if there.is_some() {
                place.set(there);
                return Some(state);
            }
            place.set(Some(state));
            None
        };
        // Dropped outside, since that may look methods up itself.
        drop(AT_HAND.try_with(put));
    }

    #[inline]
    fn of(self, at_hand: &[Cell<Option<AnyShare>>; PLACES]) -> &Cell<Option<AnyShare>> {
        &at_hand[usize::from(self.0) % PLACES]
    }
}

/// Lets go of what this thread has at hand: of all governances, which find theirs again.
pub(crate) fn let_go() {
    let _ = AT_HAND.try_with(|at_hand| at_hand.iter().for_each(|place| drop(place.take())));
}

/// Puts a state at hand for the thread's next look-up. A function that a state knows, so that its
/// shares need not.
pub(crate) fn give_back<O: Send + Sync + 'static>(state: Arc<MethodState<O>>) {
    // One that gave way would only be kept alive.
    if !state.gave_way() {
        state.place.put(state);
    }
}

/// A call's share in what governs it.
///
/// A thread has some shares at hand. A call takes one, and when it needs it no more gives it to the
/// thread that it is on by then: so the owners of a state are not counted anew for each call, which
/// would cost more than the rest of a look-up, and more still where two threads count them.
///
/// The price: a thread that calls no more keeps up to 16 states alive, with the observers in them, also
/// when newer policies are in force or their governance was dropped. It lets one go when it looks up a
/// method of the same place, and all when it replaces a set, drops a governance or ends.
pub(crate) struct Share<O> {
    /// Taken when it is given back.
    state: Option<Arc<MethodState<O>>>,
}

impl<O> Share<O> {
    pub(crate) const fn new(state: Arc<MethodState<O>>) -> Self {
        Self { state: Some(state) }
    }

    /// Another owner of the same, for longer than the call is on its way in.
    pub(crate) fn owned(&self) -> Arc<MethodState<O>> {
        Arc::clone(self.state())
    }

    #[inline]
    fn state(&self) -> &Arc<MethodState<O>> {
        self.state.as_ref().expect("given back when it is dropped")
    }
}

impl<O> Deref for Share<O> {
    type Target = MethodState<O>;

    #[inline]
    fn deref(&self) -> &MethodState<O> {
        self.state()
    }
}

impl<O> Drop for Share<O> {
    #[inline]
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            (state.give_back)(state);
        }
    }
}

impl<O> fmt::Debug for Share<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{Format, Governance, PolicySet};

    const GET: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Get" };

    fn governance() -> Governance {
        let set = PolicySet::parse("policies.yaml", "defaults: {timeout: 1s}", Format::Yaml);
        Governance::new(set.unwrap())
    }

    fn at_hand(governance: &Governance) -> Option<Arc<MethodState>> {
        let place = governance.shared.id.place_of(GET);
        let found = place.take::<MethodState>();
        if let Some(found) = &found {
            place.put(Arc::clone(found));
        }
        found
    }

    #[test]
    fn what_is_put_is_there_once_and_only_as_what_it_is() {
        let place = Id(0).place_of(GET);
        let share = Arc::new("share");
        assert_eq!(place.take::<&str>(), None);
        place.put(Arc::clone(&share));
        assert!(Arc::ptr_eq(&place.take().unwrap(), &share));
        assert_eq!(place.take::<&str>(), None, "taken");
        place.put(Arc::clone(&share));
        assert_eq!(place.take::<u64>(), None, "of another type");
        place.put(Arc::clone(&share));
        let later = Arc::new("later");
        place.put(Arc::clone(&later));
        assert!(Arc::ptr_eq(&place.take().unwrap(), &share));
        assert_eq!((Arc::strong_count(&share), Arc::strong_count(&later)), (1, 1));
    }

    #[test]
    fn a_call_takes_the_share_and_gives_it_to_the_thread_that_it_ends_on() {
        let governance = governance();
        let share = governance.resolve(Some(GET));
        assert!(at_hand(&governance).is_none(), "a call has it");
        let state = share.owned();
        thread::scope(|scope| {
            scope.spawn(|| {
                drop(share);
                assert!(Arc::ptr_eq(&at_hand(&governance).unwrap(), &state));
            });
        });
        assert!(at_hand(&governance).is_none(), "the other thread had it");
        drop(governance.resolve(Some(GET)));
        assert!(Arc::ptr_eq(&at_hand(&governance).unwrap(), &state));
    }

    #[test]
    fn a_look_up_takes_what_is_at_hand() {
        let (ours, others) = (governance(), governance());
        let planted = others.method(GET);
        ours.shared.id.place_of(GET).put(Arc::clone(&planted));
        assert!(!Arc::ptr_eq(&ours.method(GET), &planted), "of another governance");
        let state = ours.method(GET);
        let owners = Arc::strong_count(&state);
        for _ in 0..100 {
            drop(ours.resolve(Some(GET)));
        }
        assert_eq!(Arc::strong_count(&state), owners);
        // The table's, this test's, and the thread's own.
        assert_eq!(owners, 3);
    }

    #[test]
    fn calls_that_overlap_have_a_share_each_and_one_is_kept() {
        let governance = governance();
        let shares: Vec<_> = (0..10).map(|_| governance.resolve(Some(GET))).collect();
        let state = shares[0].owned();
        assert_eq!(Arc::strong_count(&state), 12);
        drop(shares);
        assert_eq!(Arc::strong_count(&state), 3);
    }

    #[test]
    fn a_thread_lets_go_when_it_replaces_the_set_drops_the_governance_or_ends() {
        let governance = governance();
        let old = Arc::downgrade(&governance.method(GET));
        // A thread that has ended: to wait for it is more than to wait for its work.
        thread::scope(|scope| scope.spawn(|| drop(governance.method(GET))).join().unwrap());
        governance.replace(governance.set().as_ref().clone());
        assert!(old.upgrade().is_none(), "no call is governed by it any more");
        let last = Arc::downgrade(&governance.method(GET));
        drop(governance);
        assert!(last.upgrade().is_none(), "nothing is governed any more");
    }

    #[test]
    fn methods_that_look_alike_have_places_of_their_own() {
        let named = |service, method| MethodRef { service, method };
        let place_of = |name| usize::from(Id(0).place_of(name).0) % PLACES;
        for (a, b) in [
            (named("a.Cart", "Get"), named("b.User", "Get")),
            (named("shop.Order", "CreateOrder"), named("shop.Order", "CancelOrder")),
            (named("shop.Cart", "Get"), named("shop.Cart", "Set")),
            (named("shop.Cart", "GetItem"), named("shop.Cart", "GetItems")),
        ] {
            assert_ne!(place_of(a), place_of(b), "{a:?} {b:?}");
        }
        // Names may be empty.
        let _ = Id(u64::MAX).place_of(named("", ""));
    }
}
