use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

use outrigger_core::AttemptContext;
use pin_project::pin_project;
use tokio::time::Instant;

#[cfg(feature = "http")]
mod layer;

#[cfg(feature = "http")]
pub use self::layer::{ChainFuture, ChainLayer, ChainService};

/// What the call that is being served says to the calls that it makes: whether it is itself a
/// retry, and when it must be over.
///
/// Retries and time-outs look at it when the request that they are given carries no context of its
/// own. `ChainLayer` (feature `http`) enters it for a server's handlers; [`Chain::scope`] does so
/// for any future. It holds while that future is polled, in no task that the future spawns: take
/// [`Chain::current`] there and enter it again.
///
/// ```
/// use outrigger_retry::Chain;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let chain = Chain::default().with_retry(true);
/// chain.scope(async { assert!(Chain::current().is_retry()) }).await;
/// assert!(!Chain::current().is_retry());
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    is_retry: bool,
    deadline: Option<Instant>,
    /// Whether a call that was made meanwhile has failed beyond what its retries could do.
    has_given_up: bool,
}

std::thread_local! {
    static CURRENT: Cell<Chain> = const { Cell::new(Chain::NONE) };
}

impl Chain {
    const NONE: Self = Self { is_retry: false, deadline: None, has_given_up: false };

    /// What the call that this thread serves just now says; nothing outside of one.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.try_with(Cell::get).unwrap_or_default()
    }

    /// Whether the call that is being served is itself a retry.
    #[must_use]
    pub const fn is_retry(&self) -> bool {
        self.is_retry
    }

    /// When the call that is being served must be over.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What a call begins with that is made for the call being served, if nobody wrote it a context.
    #[must_use]
    pub fn context(&self) -> AttemptContext {
        let mut context = AttemptContext::default();
        context.caller_is_retry = self.is_retry;
        context.deadline = self.deadline;
        context
    }

    /// Says whether the call that is being served is itself a retry.
    #[must_use]
    pub const fn with_retry(mut self, is_retry: bool) -> Self {
        self.is_retry = is_retry;
        self
    }

    /// Says when the call that is being served must be over.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Lets `future` see this as [`current`](Self::current).
    pub const fn scope<F>(self, future: F) -> ChainScope<F> {
        ChainScope { chain: self, future }
    }

    /// A call that was made while this is current has failed, and its retries have given up: whoever
    /// is further up would only repeat them.
    pub(crate) fn give_up() {
        let _ = CURRENT.try_with(|current| {
            current.set(Self { has_given_up: true, ..current.get() });
        });
    }

    fn enter(self) -> Entered {
        Entered { before: CURRENT.try_with(|current| current.replace(self)).unwrap_or_default() }
    }
}

/// Puts back what was before, also when the future panics.
struct Entered {
    before: Chain,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let _ = CURRENT.try_with(|current| current.set(self.before));
    }
}

/// A future that sees a [`Chain`]. Made by [`Chain::scope`].
#[pin_project]
#[derive(Clone, Debug)]
pub struct ChainScope<F> {
    chain: Chain,
    #[pin]
    future: F,
}

impl<F> ChainScope<F> {
    #[cfg(feature = "http")]
    const fn has_given_up(&self) -> bool {
        self.chain.has_given_up
    }
}

impl<F: Future> Future for ChainScope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.chain.enter();
        let polled = this.future.poll(cx);
        this.chain.has_given_up = Chain::current().has_given_up;
        polled
    }
}
