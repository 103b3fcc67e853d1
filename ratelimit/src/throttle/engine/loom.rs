//! Models of all orders in which threads can count and move the window on.

use loom::{sync::Arc, thread};

use super::window::Window;

const BUCKET: u64 = 10;

#[test]
fn no_count_is_lost_or_doubled_while_the_window_moves_on() {
    loom::model(|| {
        let window = Arc::new(Window::new(BUCKET, 0));
        let threads: Vec<_> = [1, 2]
            .map(|step| {
                let window = Arc::clone(&window);
                thread::spawn(move || {
                    window.add(true);
                    let counts = window.counts(step * BUCKET);
                    assert!((1..=2).contains(&counts.requests), "{counts:?}");
                    assert_eq!(counts.requests, counts.accepts);
                })
            })
            .into_iter()
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(window.counts(3 * BUCKET).requests, 2);
    });
}

#[test]
fn a_window_that_forgets_never_holds_less_than_nothing() {
    loom::model(|| {
        let window = Arc::new(Window::new(BUCKET, 0));
        window.add(false);
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || {
            other.add(true);
            other.counts(100 * BUCKET)
        });
        let counts = window.counts(101 * BUCKET);
        assert!(counts.requests <= 2, "{counts:?}");
        assert!(thread.join().unwrap().requests <= 2);
    });
}
