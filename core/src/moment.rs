use std::cell::Cell;

use tokio::time::Instant;

/// One look at the clock for all layers that a call passes at the same moment.
///
/// A layer asks [`now`](Self::now). By itself it gets what the clock says. Where layers stand
/// together, who puts them together calls them in one moment ([`share`](Self::share)), and what is
/// no layer of ours outside of it ([`leave`](Self::leave)), since it may take long. Then a call
/// reads the clock once on its way in and once on its way out, whatever the number of layers.
///
/// A moment belongs to a thread and ends with the work that was given to it, also by a panic.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_core::Moment;
/// use tokio::time::{advance, Instant};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let [first, second] = Moment::share(|| [Moment::now(), Moment::now()]);
/// assert_eq!(first, second);
/// advance(Duration::from_secs(1)).await;
/// assert_eq!(Moment::now(), first + Duration::from_secs(1));
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Moment {}

/// What a thread is in.
#[derive(Clone, Copy)]
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

    /// Does `work` in one moment: that which this thread is in already, or one of its own.
    #[inline]
    pub fn share<R>(work: impl FnOnce() -> R) -> R {
        if !matches!(PRESENT.get(), Present::Outside) {
            return work();
        }
        PRESENT.set(Present::Unread);
        let _after = Back(Present::Outside);
        work()
    }

    /// Does `work` outside of any moment. If this thread was in one, it is in another afterwards.
    #[inline]
    pub fn leave<R>(work: impl FnOnce() -> R) -> R {
        if matches!(PRESENT.get(), Present::Outside) {
            return work();
        }
        PRESENT.set(Present::Outside);
        let _after = Back(Present::Unread);
        work()
    }
}

/// What the thread is in again afterwards, also when the work panics.
struct Back(Present);

impl Drop for Back {
    #[inline]
    fn drop(&mut self) {
        PRESENT.set(self.0);
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
            assert_eq!(Moment::share(Moment::now), began + SECOND, "one within is the same");
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
                assert_eq!(Moment::leave(Moment::now), began + SECOND);
                take_long();
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
        catch_unwind(|| Moment::share(|| panic!("{:?}", Moment::now()))).unwrap_err();
        take_long();
        assert_eq!(Moment::now(), began + SECOND);
        Moment::share(|| {
            assert_eq!(Moment::now(), began + SECOND);
            catch_unwind(|| Moment::leave(|| panic!("within"))).unwrap_err();
            take_long();
            assert_eq!(Moment::now(), began + 2 * SECOND);
        });
    }
}
