use std::{
    cell::RefCell,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer of one word, for futures that mostly end before they need one.
///
/// tokio's [`Sleep`] is over a hundred bytes, which each layer's future would carry about, and move,
/// for the few calls that wait. Here it stands in a box, taken when the timer is armed. A box that is
/// not needed any more is kept by the thread for its next timers, 256 of them at most: arming
/// allocates only where none is left of those that ended on the thread. What is kept is the room
/// alone: the `Sleep` is dropped, and with it deregistered, as soon as the timer is disarmed or
/// dropped.
///
/// ```
/// use std::{future::poll_fn, time::Duration};
///
/// use outrigger_core::Timer;
/// use tokio::time::Instant;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let deadline = Instant::now() + Duration::from_secs(1);
/// let mut timer = Timer::new();
/// timer.arm(deadline);
/// poll_fn(|cx| timer.poll(cx)).await;
/// assert!(Instant::now() >= deadline);
/// # }
/// ```
#[derive(Default)]
pub struct Timer {
    /// Has a `Sleep` in it.
    place: Option<Place>,
}

/// Room for a `Sleep`.
type Place = Pin<Box<Option<Sleep>>>;

/// How many places a thread keeps at most, some 28 KiB.
const SPARES_MAX: usize = 256;

std::thread_local! {
    /// Places with nothing in them. Borrowed only while one is put in or taken out: to make or drop
    /// a `Sleep` may run a user's code, and panic.
    static SPARES: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

impl Timer {
    /// Not armed. Takes nothing and needs no runtime.
    #[must_use]
    pub const fn new() -> Self {
        Self { place: None }
    }

    /// Whether it has a deadline, be it over or not.
    #[inline]
    #[must_use]
    pub const fn is_armed(&self) -> bool {
        self.place.is_some()
    }

    /// Sets the deadline, or moves it if there is one.
    ///
    /// # Panics
    ///
    /// As [`sleep_until`] outside of a runtime with time enabled; the timer is then as it was.
    #[track_caller]
    pub fn arm(&mut self, deadline: Instant) {
        if self.sleep().is_some_and(|sleep| sleep.deadline() == deadline) {
            return;
        }
        // A new one also where there is one, which may be of another runtime. Made before there is a
        // place for it, since it may panic.
        let sleep = sleep_until(deadline);
        self.place.get_or_insert_with(take_spare).set(Some(sleep));
    }

    /// Ready once the deadline is over, and ready again until it is disarmed or moved. Pending
    /// where it is not armed: then nobody is woken.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep().map_or(Poll::Pending, |sleep| sleep.poll(cx))
    }

    /// Takes the deadline away. Nobody is woken for it any more.
    #[inline]
    pub fn disarm(&mut self) {
        if let Some(place) = self.place.take() {
            clear(place);
        }
    }

    fn sleep(&mut self) -> Option<Pin<&mut Sleep>> {
        self.place.as_mut()?.as_mut().as_pin_mut()
    }
}

impl Drop for Timer {
    #[inline]
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sleep = self.place.as_ref().and_then(|place| place.as_ref().as_pin_ref());
        f.debug_struct("Timer").field("deadline", &sleep.map(|sleep| sleep.deadline())).finish()
    }
}

/// Drops what is in the place and keeps the place. Out of line: a call that ends at once never had
/// one.
#[inline(never)]
fn clear(mut place: Place) {
    place.set(None);
    // Where there is no room for it, it is freed: after the borrow.
    drop(keep_spare(place));
}

/// A place with nothing in it, allocated if this thread has none.
fn take_spare() -> Place {
    // A thread that is going down has no thread-locals left.
    let spare = SPARES.try_with(|spares| spares.try_borrow_mut().ok()?.pop());
    // Boxed, so that what moves with a future is one word: only where no spare is left.
    spare.ok().flatten().unwrap_or_else(|| Box::pin(None))
}

/// Gives it back if this thread keeps no more.
fn keep_spare(place: Place) -> Option<Place> {
    let mut place = Some(place);
    // As above.
    let _ = SPARES.try_with(|spares| {
        if let Ok(mut spares) = spares.try_borrow_mut()
            && spares.len() < SPARES_MAX
        {
            spares.extend(place.take());
        }
    });
    place
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Arc,
        task::{Wake, Waker},
        thread,
        time::Duration,
    };

    use tokio::{
        runtime::{Builder, Runtime},
        time::{advance, timeout},
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    }

    fn spares() -> usize {
        SPARES.with_borrow(Vec::len)
    }

    fn armed(deadline: Instant) -> Timer {
        let mut timer = Timer::new();
        timer.arm(deadline);
        timer
    }

    /// A waker whose owners are counted.
    struct Owned;

    impl Wake for Owned {
        fn wake(self: Arc<Self>) {}
    }

    /// Arms a timer when it is dropped and woken by nobody, as a user's waker may.
    struct ArmsAnother;

    impl Wake for ArmsAnother {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for ArmsAnother {
        fn drop(&mut self) {
            drop(armed(Instant::now() + SECOND));
        }
    }

    #[test]
    fn it_is_one_word_and_can_be_moved() {
        fn is_free<T: Send + Sync + Unpin>() {}
        is_free::<Timer>();
        assert_eq!(size_of::<Timer>(), size_of::<usize>());
    }

    #[test]
    fn one_that_is_moved_runs_where_it_was_moved() {
        let (first, second) = (runtime(), runtime());
        let mut timer = first.block_on(async { armed(Instant::now() + SECOND) });
        drop(first);
        second.block_on(async {
            let later = Instant::now() + 2 * SECOND;
            timer.arm(later);
            poll_fn(|cx| timer.poll(cx)).await;
            assert_eq!(Instant::now(), later);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_at_the_deadline_and_stays_so() {
        let began = Instant::now();
        let mut timer = armed(began + SECOND);
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(Instant::now(), began + SECOND);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(timer.poll(&mut cx).is_ready() && timer.is_armed());
        timer.arm(began + SECOND);
        assert!(timer.poll(&mut cx).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn an_armed_one_is_moved() {
        let began = Instant::now();
        let mut timer = armed(began + 2 * SECOND);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(timer.poll(&mut cx).is_pending());
        for seconds in [1, 3] {
            timer.arm(began + seconds * SECOND);
            poll_fn(|cx| timer.poll(cx)).await;
            assert_eq!(Instant::now(), began + seconds * SECOND);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_without_a_deadline_is_pending_for_good() {
        let mut timer = Timer::default();
        timeout(1_000 * SECOND, poll_fn(|cx| timer.poll(cx))).await.unwrap_err();
        timer.arm(Instant::now());
        assert!(timer.is_armed());
        timer.disarm();
        assert!(!timer.is_armed());
        timeout(1_000 * SECOND, poll_fn(|cx| timer.poll(cx))).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_one_frees_its_waker_at_once_and_its_place_is_used_again() {
        let owned = Arc::new(Owned);
        for round in 0..3 {
            let mut timer = armed(Instant::now() + SECOND);
            assert_eq!(spares(), 0, "round {round}");
            let waker = Waker::from(Arc::clone(&owned));
            assert!(timer.poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            assert_eq!(Arc::strong_count(&owned), 2);
            drop(timer);
            assert_eq!((Arc::strong_count(&owned), spares()), (1, 1));
        }
        advance(2 * SECOND).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_keeps_so_many_places_and_no_more() {
        let deadline = Instant::now() + SECOND;
        let timers: Vec<_> = (0..2 * SPARES_MAX).map(|_| armed(deadline)).collect();
        drop(timers);
        assert_eq!(spares(), SPARES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waker_may_use_timers_when_it_is_dropped() {
        let mut timer = armed(Instant::now() + SECOND);
        let waker = Waker::from(Arc::new(ArmsAnother));
        assert!(timer.poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        timer.disarm();
        assert_eq!(spares(), 2, "that of the other, and its own");
    }

    #[test]
    fn a_panic_outside_of_a_runtime_leaves_it_usable() {
        let runtime = runtime();
        let mut timer = Timer::new();
        let arm =
            |timer: &mut Timer, deadline| catch_unwind(AssertUnwindSafe(|| timer.arm(deadline)));
        let deadline = {
            let _inside = runtime.enter();
            drop(armed(Instant::now()));
            Instant::now() + SECOND
        };
        arm(&mut timer, deadline).unwrap_err();
        assert_eq!((timer.is_armed(), spares()), (false, 1));
        let _inside = runtime.enter();
        arm(&mut timer, deadline).unwrap();
        assert_eq!((timer.is_armed(), spares()), (true, 0));
    }

    #[test]
    fn one_outlives_its_runtime() {
        let runtime = runtime();
        let timer = {
            let _inside = runtime.enter();
            armed(Instant::now() + SECOND)
        };
        drop(runtime);
        drop(timer);
        assert_eq!(spares(), 1);
    }

    #[test]
    fn a_thread_that_goes_down_may_drop_timers_before_and_after_its_spares() {
        /// Uses the spares when the thread goes down.
        struct Late(Option<Timer>, bool);

        impl Drop for Late {
            fn drop(&mut self) {
                let had_one = self.0.take().is_some();
                let kept = keep_spare(take_spare()).is_none();
                assert_eq!((had_one, kept), (true, self.1));
            }
        }

        std::thread_local! {
            static LATE: RefCell<Late> = const { RefCell::new(Late(None, false)) };
        }

        for spares_are_first in [false, true] {
            let goes_down = move || {
                let runtime = runtime();
                let _inside = runtime.enter();
                // Values of a thread go in the order opposite to that of their first use.
                if spares_are_first {
                    drop(armed(Instant::now()));
                }
                LATE.with_borrow_mut(|late| {
                    late.1 = spares_are_first;
                    late.0 = Some(armed(Instant::now() + SECOND));
                });
            };
            thread::spawn(goes_down).join().unwrap();
        }
    }
}
