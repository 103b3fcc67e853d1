use std::cell::Cell;

use tokio::time::Instant;

/// One look at the clock for all layers that a call passes at the same moment.
///
/// A layer asks [`now`](Self::now). By itself it gets what the clock says. Where layers stand
/// together, who puts them together calls them in one moment ([`share`](Self::share)), and the
/// service inside of them outside of it ([`leave`](Self::leave)), since it may take long. Then a
/// call reads the clock once on its way in and once on its way out, whatever the number of layers.
///
/// A moment belongs to a thread and lasts as long as a closure runs, also if that panics: it cannot
/// reach over an `await`. What a user puts between the layers (a classifier, an observer, a layer of
/// their own) runs in the moment; it sees the time pass only if it asks the clock itself.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_core::Moment;
/// use tokio::time::{advance, Instant};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let first = Moment::share(|| {
///     let first = Moment::now();
///     assert_eq!(Moment::now(), first);
///     first
/// });
/// advance(Duration::from_secs(1)).await;
/// assert_eq!(Moment::now(), first + Duration::from_secs(1));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Moment {}

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

    /// All that `of_layers` does is one moment: that which this thread is in already, or a new one.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "what it gives back is large: moving it costs more")]
    pub fn share<R>(of_layers: impl FnOnce() -> R) -> R {
        let is_outside = matches!(PRESENT.get(), Present::Outside);
        if is_outside {
            PRESENT.set(Present::Unread);
        }
        let _back = Back(is_outside.then_some(Present::Outside));
        of_layers()
    }

    /// While `of_user` runs, this thread is in no moment. If it was in one, it is in another
    /// afterwards.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "what it gives back is large: moving it costs more")]
    pub fn leave<R>(of_user: impl FnOnce() -> R) -> R {
        let is_outside = matches!(PRESENT.get(), Present::Outside);
        if !is_outside {
            PRESENT.set(Present::Outside);
        }
        let _back = Back((!is_outside).then_some(Present::Unread));
        of_user()
    }
}

/// Puts the thread back into what it was in, if that was something else; also by a panic.
struct Back(Option<Present>);

impl Drop for Back {
    #[inline]
    fn drop(&mut self) {
        if let Some(back) = self.0 {
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
        Moment::share(|| {
            take_long();
            assert_eq!(Moment::now(), began + SECOND, "not before anybody asks");
            take_long();
            Moment::share(|| {
                assert_eq!(Moment::now(), began + SECOND, "one within is the same");
            });
            assert_eq!(Moment::now(), began + SECOND);
        });
        assert_eq!(Moment::now(), began + 2 * SECOND);
        take_long();
        assert_eq!(Moment::now(), began + 3 * SECOND, "in no moment");
    }

    #[tokio::test]
    async fn what_is_left_a_moment_for_sees_the_clock_and_is_followed_by_another_moment() {
        pause();
        let began = Instant::now();
        Moment::share(|| {
            assert_eq!(Moment::now(), began);
            Moment::leave(|| {
                take_long();
                assert_eq!(Moment::now(), began + SECOND);
                Moment::leave(take_long);
                assert_eq!(Moment::now(), began + 2 * SECOND);
            });
            take_long();
            assert_eq!(Moment::now(), began + 3 * SECOND);
            take_long();
            assert_eq!(Moment::now(), began + 3 * SECOND);
        });
    }

    #[tokio::test]
    async fn a_panic_ends_its_moment_too() {
        pause();
        let began = Instant::now();
        let panics = || Moment::share(|| panic!("at {:?}", Moment::now()));
        catch_unwind(panics).unwrap_err();
        take_long();
        assert_eq!(Moment::now(), began + SECOND);
    }
}
