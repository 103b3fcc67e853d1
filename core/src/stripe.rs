//! Which stripe the present thread uses of a value that is cut into several, so that threads at
//! work write to no common cache line.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread::available_parallelism,
};

/// How many stripes suffice here: as many as threads can run at a time, four where that is not
/// known, at most 16. A power of two, so that choosing one takes no division.
#[must_use]
pub fn stripe_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    let count = || available_parallelism().map_or(4, NonZeroUsize::get).min(16).next_power_of_two();
    *COUNT.get_or_init(count)
}

/// The number of the present thread, from 0: the smallest that no other living thread has.
///
/// Given back when the thread ends, so that the workers of a runtime, which live together, have
/// numbers in a row and no two of them a stripe in common while there are enough. Modulo the number
/// of stripes it says which one is the thread's.
#[inline]
#[must_use]
pub fn thread_number() -> usize {
    std::thread_local! {
        static NUMBER: Number = Number::take();
    }
    // A thread that is going down has no thread-locals left; any number will do.
    NUMBER.try_with(|Number(number)| *number).unwrap_or(0)
}

struct Number(usize);

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { next: 0, free: BinaryHeap::new() });

struct Numbers {
    next: usize,
    free: BinaryHeap<Reverse<usize>>,
}

impl Number {
    fn take() -> Self {
        let mut numbers = lock();
        if let Some(Reverse(number)) = numbers.free.pop() {
            return Self(number);
        }
        numbers.next += 1;
        Self(numbers.next - 1)
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        lock().free.push(Reverse(self.0));
    }
}

fn lock() -> MutexGuard<'static, Numbers> {
    NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::Barrier,
        thread::{scope, spawn},
    };

    use super::*;

    #[test]
    fn living_threads_have_numbers_of_their_own() {
        let all_here = Barrier::new(8);
        let numbers: HashSet<_> = scope(|scope| {
            let number = || {
                all_here.wait();
                let number = thread_number();
                all_here.wait();
                number
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(number)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(numbers.len(), 8);
    }

    #[test]
    fn numbers_of_threads_that_are_gone_are_given_again() {
        let largest = (0..1_000).map(|_| spawn(thread_number).join().unwrap()).max();
        // Other tests run beside this one, but not a thousand.
        assert!(largest.unwrap() < 500, "{largest:?}");
    }
}
