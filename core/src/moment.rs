use std::{cell::Cell, marker::PhantomData};

use tokio::time::Instant;

/// One look at the clock for all layers that a call passes at the same moment.
///
/// A layer asks [`now`](Self::now). By itself it gets what the clock says. Where layers stand
/// together, who puts them together calls them in one moment ([`share`](Self::share)), and what is
/// no layer of ours outside of it ([`leave`](Self::leave)), since it may take long. Then a call
/// reads the clock once on its way in and once on its way out, whatever the number of layers.
///
/// A moment belongs to a thread and ends when it is dropped, also by a panic.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_core::Moment;
/// use tokio::time::{advance, Instant};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let moment = Moment::share();
/// let first = Moment::now();
/// assert_eq!(Moment::now(), first);
/// drop(moment);
/// advance(Duration::from_secs(1)).await;
/// assert_eq!(Moment::now(), first + Duration::from_secs(1));
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it lasts until it is dropped"]
pub struct Moment {
    /// What the thread is in again afterwards, if that is something else.
    back: Option<Present>,
    of_thread: PhantomData<*const ()>,
}

/// What a thread is in.
#[derive(Clone, Copy, Debug)]
enum Present {
    /// In no moment.
    Outside,
    /// In a moment whose time nobody asked for yet.
    Unread,
    At(Instant),
}

std::thread_local! {
    static PRESENT: Cell<Present> = const { Cell::new(Present::Outside) };
}

impl Moment {
    /// The time of the moment that this thread is in, or else of the clock.
    #[inline]
    #[must_use]
    pub fn now() -> Instant {
        match PRESENT.get() {
            Present::At(now) => now,
            Present::Unread => {
                let now = Instant::now();
                PRESENT.set(Present::At(now));
                now
            }
            Present::Outside => Instant::now(),
        }
    }

    /// Until it is dropped, all is one moment: that which this thread is in already, or a new one.
    #[inline]
    pub fn share() -> Self {
        let is_outside = matches!(PRESENT.get(), Present::Outside);
        if is_outside {
            PRESENT.set(Present::Unread);
        }
        Self { back: is_outside.then_some(Present::Outside), of_thread: PhantomData }
    }

    /// Until it is dropped, this thread is in no moment. If it was in one, it is in another
    /// afterwards.
    #[inline]
    pub fn leave() -> Self {
        let is_outside = matches!(PRESENT.get(), Present::Outside);
        if !is_outside {
            PRESENT.set(Present::Outside);
        }
        Self { back: (!is_outside).then_some(Present::Unread), of_thread: PhantomData }
    }
}

impl Drop for Moment {
    #[inline]
    fn drop(&mut self) {
        if let Some(back) = self.back {
            PRESENT.set(back);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{panic::catch_unwind, time::Duration};

    use tokio::time::{advance, pause};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Work that takes a second, in the middle of something that cannot wait.
    fn take_long() {
        futures_util::FutureExt::now_or_never(advance(SECOND));
    }

    #[tokio::test]
    async fn all_of_a_moment_see_the_time_at_which_it_was_first_asked_for() {
        pause();
        let began = Instant::now();
        let moment = Moment::share();
        take_long();
        assert_eq!(Moment::now(), began + SECOND, "not before anybody asks");
        take_long();
        let within = Moment::share();
        assert_eq!(Moment::now(), began + SECOND, "one within is the same");
        drop(within);
        assert_eq!(Moment::now(), began + SECOND);
        drop(moment);
        assert_eq!(Moment::now(), began + 2 * SECOND);
        take_long();
        assert_eq!(Moment::now(), began + 3 * SECOND, "in no moment");
    }

    #[tokio::test]
    async fn what_is_left_a_moment_for_sees_the_clock_and_is_followed_by_another_moment() {
        pause();
        let began = Instant::now();
        let _moment = Moment::share();
        assert_eq!(Moment::now(), began);
        let outside = Moment::leave();
        take_long();
        assert_eq!(Moment::now(), began + SECOND);
        drop(Moment::leave());
        take_long();
        assert_eq!(Moment::now(), began + 2 * SECOND);
        drop(outside);
        take_long();
        assert_eq!(Moment::now(), began + 3 * SECOND);
        take_long();
        assert_eq!(Moment::now(), began + 3 * SECOND);
    }

    #[tokio::test]
    async fn a_panic_ends_its_moment_too() {
        pause();
        let began = Instant::now();
        let panics = || {
            let _moment = Moment::share();
            panic!("at {:?}", Moment::now());
        };
        catch_unwind(panics).unwrap_err();
        take_long();
        assert_eq!(Moment::now(), began + SECOND);
    }
}
