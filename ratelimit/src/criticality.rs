#[cfg(feature = "http")]
mod pass_on;

use outrigger_core::{AttemptContext, CarryContext, Criticality};

#[cfg(feature = "http")]
pub use self::pass_on::{PassOnCriticality, PassOnCriticalityLayer};

use crate::Asking;

/// Says how much a request matters under overload.
///
/// A closure is one:
///
/// ```
/// use outrigger_core::Criticality;
/// use outrigger_ratelimit::ReadCriticality;
///
/// let prefetch_can_wait = |path: &&str| match path.starts_with("/prefetch") {
///     true => Some(Criticality::Sheddable),
///     false => None,
/// };
/// assert_eq!(prefetch_can_wait.read(&"/prefetch/7"), Some(Criticality::Sheddable));
/// ```
pub trait ReadCriticality<Request> {
    /// How much `request` matters; `None` leaves it to the context, and to
    /// [`Critical`](Criticality::Critical) at last.
    fn read(&self, request: &Request) -> Option<Criticality>;
}

impl<F, Request> ReadCriticality<Request> for F
where
    F: Fn(&Request) -> Option<Criticality>,
{
    fn read(&self, request: &Request) -> Option<Criticality> {
        self(request)
    }
}

/// Leaves it to the [`AttemptContext`] that came with the request. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FromContext;

impl<Request> ReadCriticality<Request> for FromContext {
    fn read(&self, _request: &Request) -> Option<Criticality> {
        None
    }
}

/// Reads it from a header, as `CRITICAL_PLUS`, `CRITICAL`, `SHEDDABLE_PLUS` or `SHEDDABLE`, in any
/// case. Another value says nothing.
///
/// ```
/// use http::Request;
/// use outrigger_core::Criticality;
/// use outrigger_ratelimit::{CriticalityHeader, ReadCriticality};
///
/// let mut request = Request::new(());
/// let header = CriticalityHeader::default();
/// header.write(request.headers_mut(), Criticality::SheddablePlus);
/// assert_eq!(header.read(&request), Some(Criticality::SheddablePlus));
/// ```
#[cfg(feature = "http")]
#[derive(Clone, Debug)]
pub struct CriticalityHeader {
    name: http::HeaderName,
}

#[cfg(feature = "http")]
impl Default for CriticalityHeader {
    /// `x-criticality`.
    fn default() -> Self {
        Self::new(http::HeaderName::from_static("x-criticality"))
    }
}

#[cfg(feature = "http")]
impl CriticalityHeader {
    const WORDS: [(&'static str, Criticality); 4] = [
        ("SHEDDABLE", Criticality::Sheddable),
        ("SHEDDABLE_PLUS", Criticality::SheddablePlus),
        ("CRITICAL", Criticality::Critical),
        ("CRITICAL_PLUS", Criticality::CriticalPlus),
    ];

    /// The header of this name.
    #[must_use]
    pub const fn new(name: http::HeaderName) -> Self {
        Self { name }
    }

    /// Says in the headers of a request how much it matters: for calls further down.
    pub fn write(&self, headers: &mut http::HeaderMap, criticality: Criticality) {
        let (word, _) = Self::WORDS[criticality as usize];
        headers.insert(self.name.clone(), http::HeaderValue::from_static(word));
    }
}

#[cfg(feature = "http")]
impl<B> ReadCriticality<http::Request<B>> for CriticalityHeader {
    fn read(&self, request: &http::Request<B>) -> Option<Criticality> {
        let said = request.headers().get(&self.name)?.as_bytes();
        let is_said = |word: &str| word.as_bytes().eq_ignore_ascii_case(said);
        Self::WORDS.iter().find(|(word, _)| is_said(word)).map(|(_, criticality)| *criticality)
    }
}

/// What a limit has to know of a request. What `reader` says is put into the context, if there is
/// a place for it.
pub(crate) fn asking<Request>(
    request: &mut Request,
    carry: &impl CarryContext<Request>,
    reader: &impl ReadCriticality<Request>,
) -> Asking {
    let said = reader.read(request);
    let mut asking = Asking::default();
    if let Some(AttemptContext { deadline, criticality, .. }) = carry.context(request) {
        asking.deadline = *deadline;
        asking.criticality = criticality.unwrap_or_default();
    }
    if let Some(criticality) = said {
        let mut context = carry.context(request).cloned().unwrap_or_default();
        if context.criticality != said {
            context.criticality = said;
            carry.set_context(request, context);
        }
        asking.criticality = criticality;
    }
    asking
}
