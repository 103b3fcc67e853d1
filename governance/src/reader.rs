use std::{fmt, sync::Arc};

use outrigger_core::{Method, MethodRef};

use crate::{Governance, MethodState, ObserveGovernance, state::OTHER};

/// Finds what governs a call, with what governed the last ones at hand: a look-up of the same
/// method costs some 20 ns for as long as no other policies are put in force. Made by
/// [`Governance::reader`].
///
/// A clone has nothing at hand. Servers call each of their clones once, so the first look-up of a
/// reader is as it would be without one, and keeps nothing.
///
/// ```
/// use outrigger::{Format, Governance, PolicySet, core::MethodRef};
///
/// let set = |text| PolicySet::parse("p.yaml", text, Format::Yaml);
/// let governance = Governance::new(set("defaults: {timeout: 1s}")?);
/// let mut reader = governance.reader();
/// let get = MethodRef { service: "shop.Cart", method: "Get" };
/// assert!(reader.get(Some(get)).policy().timeout().is_some());
/// governance.replace(set("{}")?);
/// assert!(reader.get(Some(get)).policy().timeout().is_none());
/// # Ok::<_, outrigger::InvalidPolicies>(())
/// ```
pub struct MethodReader<O = ()> {
    governance: Governance<O>,
    /// A method has its place by its name, so that methods that take turns rarely drive each other
    /// out.
    places: [Option<Arc<MethodState<O>>>; PLACES],
    was_asked: bool,
}

const PLACES: usize = 4;

impl<O> Governance<O> {
    /// Finds what governs a call, with what governed the last ones at hand.
    #[must_use]
    pub fn reader(&self) -> MethodReader<O> {
        let places = [const { None }; PLACES];
        MethodReader { governance: self.clone(), places, was_asked: false }
    }
}

impl<O: ObserveGovernance> MethodReader<O> {
    /// What governs a call of `method` that begins now; `None` for a call that names no method.
    #[inline]
    pub fn get(&mut self, method: Option<MethodRef<'_>>) -> Arc<MethodState<O>> {
        let name = method.unwrap_or(OTHER);
        let place = &mut self.places[place_of(name)];
        if let Some(state) = place
            && state.is_in_force(self.governance.version())
            && state.method().as_ref() == name
        {
            return Arc::clone(state);
        }
        let state = self.governance.resolve(method);
        if self.was_asked {
            *place = Some(Arc::clone(&state));
        }
        self.was_asked = true;
        state
    }
}

fn place_of(name: MethodRef<'_>) -> usize {
    let letter = |byte: Option<&u8>| usize::from(byte.copied().unwrap_or_default());
    let method = name.method.as_bytes();
    (method.len() + letter(method.first()) + letter(method.last())) % PLACES
}

impl<O> Clone for MethodReader<O> {
    fn clone(&self) -> Self {
        self.governance.reader()
    }
}

impl<O> fmt::Debug for MethodReader<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_hand = self.places.iter().flatten().map(|state| state.method());
        f.debug_struct("MethodReader")
            .field("governance", &self.governance)
            .field("at_hand", &at_hand.collect::<Vec<&Method>>())
            .finish_non_exhaustive()
    }
}
