use std::error::Error;

use outrigger_core::Rejection;

/// Whether a call may have been executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing between")]
pub enum Sent {
    /// It never left this process: it may be repeated whatever it does.
    No,
    /// The peer says that it did not process it: it may be repeated at once, and for free.
    Refused,
    /// It may have been executed.
    Maybe,
}

impl Sent {
    /// What an error and its sources say.
    ///
    /// Knows a [`Rejection`]; with the feature `hyper` that hyper's client could not connect or
    /// never sent the request, and HTTP/2's `REFUSED_STREAM` and `GOAWAY` (RFC 9113, 8.7); with
    /// the feature `tonic` that a channel could not connect.
    #[must_use]
    pub fn of_error(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(sent) = of_one(error) {
                return sent;
            }
            next = error.source();
        }
        Self::Maybe
    }
}

fn of_one(error: &(dyn Error + 'static)) -> Option<Sent> {
    if let Some(rejection) = error.downcast_ref::<Rejection>() {
        return Some(if rejection.was_sent() { Sent::Maybe } else { Sent::No });
    }
    #[cfg(feature = "tonic")]
    if error.is::<tonic::ConnectError>() {
        return Some(Sent::No);
    }
    #[cfg(feature = "hyper")]
    {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>()
            && error.is_connect()
        {
            return Some(Sent::No);
        }
        // "A pending item was dropped before ever being processed."
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && error.is_canceled()
        {
            return Some(Sent::No);
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let is_refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            // Given to streams above the last that the peer has processed, and to no others.
            let is_beyond = error.is_go_away() && error.is_remote();
            return (is_refused || is_beyond).then_some(Sent::Refused);
        }
    }
    None
}
