//! `herd`: a server comes back, and all who waited for it ask at once. Ten thousand clients with a
//! breaker each: how many calls does it get in its first seconds?

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use fastrand::Rng;
use outrigger_circuitbreak::{CircuitBreakerLayer, CircuitBreakerPolicy};
use tokio::{
    task::spawn_local,
    time::{Duration, Instant, sleep},
};
use tower::{BoxError, Layer, ServiceExt, service_fn};

use super::{MS, simulate};
use crate::row::Report;

const BACK_AFTER: Duration = Duration::from_secs(20);
const SECONDS: usize = 40;

pub(crate) struct Seen {
    /// The most calls in a tenth of a second, before it came back and after.
    down: u32,
    back: u32,
    /// When all clients call as before, in seconds after it came back.
    whole_after_s: f64,
}

/// Each client asks twice a second, whatever comes of it.
pub(crate) fn play(clients: u32, breaks: bool) -> Seen {
    simulate(async move {
        let begin = Instant::now();
        let tenths = Rc::new(RefCell::new(vec![0_u32; SECONDS * 10]));
        let good = Rc::new(RefCell::new(vec![0_u32; SECONDS]));
        let noted = Rc::clone(&tenths);
        let is_up = move || begin.elapsed() >= BACK_AFTER;
        let server = service_fn(move |()| {
            let tenth = usize::try_from(begin.elapsed().as_millis() / 100).unwrap_or(usize::MAX);
            if let Some(calls) = noted.borrow_mut().get_mut(tenth) {
                *calls += 1;
            }
            async move {
                sleep(5 * MS).await;
                if is_up() { Ok(()) } else { Err(BoxError::from("down")) }
            }
        });
        let policy = CircuitBreakerPolicy::builder().error_rate(0.5, 5).build().expect("valid");
        let running = Rc::new(Cell::new(clients));
        for number in 0..clients {
            let mut rng = Rng::with_seed(number.into());
            let breaker = outrigger_circuitbreak::CircuitBreaker::builder(policy.clone())
                .seed(number.into())
                .build();
            let client = CircuitBreakerLayer::from_handle(breaker).layer(server.clone());
            let (server, good, running) = (server.clone(), Rc::clone(&good), Rc::clone(&running));
            spawn_local(async move {
                let end = Duration::from_secs(SECONDS as u64);
                sleep(Duration::from_secs_f64(rng.f64() / 2.0)).await;
                while begin.elapsed() < end {
                    let answer = if breaks {
                        client.clone().oneshot(()).await
                    } else {
                        server.clone().oneshot(()).await
                    };
                    let second = usize::try_from(begin.elapsed().as_secs()).unwrap_or(usize::MAX);
                    if let (Ok(()), Some(good)) = (answer, good.borrow_mut().get_mut(second)) {
                        *good += 1;
                    }
                    sleep(500 * MS).await;
                }
                running.set(running.get() - 1);
            });
        }
        while running.get() > 0 {
            sleep(100 * MS).await;
        }
        let tenths = tenths.borrow();
        // The circuits are open by then.
        let most = |range: std::ops::Range<usize>| tenths[range].iter().copied().max().unwrap_or(0);
        let good = good.borrow();
        let full = f64::from(clients) * 2.0 * 0.95;
        let whole = good[20..].iter().position(|good| f64::from(*good) >= full);
        Seen {
            down: most(100..200),
            back: most(200..400),
            whole_after_s: whole.and_then(|s| u32::try_from(s).ok()).map_or(f64::NAN, f64::from),
        }
    })
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = Report::new("herd");
    let clients = if quick { 1_000 } else { 10_000 };
    report.note(format!("{clients} clients ask twice a second; the server is down for 20 s."));
    for (name, breaks) in [("without breaker", false), ("a breaker in each client", true)] {
        let Seen { down, back, whole_after_s } = play(clients, breaks);
        report.line(
            name,
            "outrigger",
            &[
                ("most_calls_in_100_ms_down", f64::from(down), "calls"),
                ("most_calls_in_100_ms_back", f64::from(back), "calls"),
                ("all_served_after_s", whole_after_s, "s"),
            ],
        );
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_down_is_left_in_peace_and_nobody_comes_back_all_at_once() {
        let (with, without) = (play(500, true), play(500, false));
        assert!(with.down * 3 < without.down, "{} of {}", with.down, without.down);
        assert!(f64::from(with.back) <= 1.5 * f64::from(without.back), "{}", with.back);
        assert!(with.whole_after_s <= 12.0, "{}", with.whole_after_s);
    }
}
