//! Two threads call and want more attempts, in every order.

use std::time::Duration;

use loom::{sync::Arc, thread};
use tokio::time::Instant;

use super::{
    engine::Engine,
    policy::{Ratio, Throttle},
};

const RULE: Ratio = Ratio { ppm: 500_000, window: Duration::from_secs(10), reserve: 0 };

#[test]
fn loom_attempts_never_exceed_their_share_of_calls_and_a_share_given_back_is_free_again() {
    loom::model(|| {
        let now = Instant::now();
        let engine = Arc::new(Engine::new(2, now));
        let threads = [0, 1].map(|thread| {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                engine.record_call(thread);
                let held = engine.try_hold(now, &RULE);
                if held && thread == 0 {
                    engine.send(now, &RULE);
                } else if held {
                    engine.give_back();
                }
                u64::from(held && thread == 0)
            })
        });
        let sent: u64 = threads.map(|thread| thread.join().unwrap()).into_iter().sum();

        assert_eq!(engine.counts(now, &RULE), (2, sent, 0));
        assert!(sent * 2 <= 2, "{sent} attempts for 2 calls at a half");
        assert_eq!(engine.try_hold(now, &RULE), sent == 0);
    });
}

#[test]
fn loom_two_threads_never_share_the_last_share() {
    loom::model(|| {
        let now = Instant::now();
        let engine = Arc::new(Engine::new(1, now));
        engine.record_call(0);
        engine.record_call(0);
        let threads = [(); 2].map(|()| {
            let engine = Arc::clone(&engine);
            thread::spawn(move || engine.try_hold(now, &RULE))
        });
        let held = threads.map(|thread| thread.join().unwrap());
        assert!(held[0] != held[1], "{held:?}");
    });
}

#[test]
fn loom_no_thousandth_of_a_token_is_lost() {
    let rule = Throttle { max_milli: 10_000, gain_milli: 100 };
    loom::model(move || {
        let engine = Arc::new(Engine::new(1, Instant::now()));
        engine.throttle_failure(&rule);
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || engine.throttle_failure(&rule))
        };
        engine.throttle_success(&rule);
        other.join().unwrap();
        assert_eq!(engine.tokens(&rule), 8_100);
    });
}
