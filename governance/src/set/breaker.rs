//! A circuit breaker's section, also in the words of resilience4j.

use super::{
    merge::WINDOWS,
    translate::{Found, words},
};
use crate::{
    Problem,
    document::{Node, Table, Value},
};

pub(super) fn circuit_breaker(breaker: &mut Table, found: &mut Found) {
    resilience4j(breaker, found);
    let [time, calls] = WINDOWS;
    if let Some(entry) = breaker.entry(calls).filter(|_| breaker.states(time))
        && breaker.states(calls)
    {
        let message = "stands beside `time_window`; the window is of time or of calls";
        found.problems.push(Problem::new(&entry.key_place, calls, message));
    }
}

/// resilience4j's names, with its defaults where a rule is only half said.
fn resilience4j(breaker: &mut Table, found: &mut Found) {
    let size = breaker.take("sliding_window_size");
    let kind = breaker.take("sliding_window_type");
    if let Some(size) = size {
        for ours in WINDOWS.into_iter().filter(|ours| breaker.states(ours)) {
            found.beside(&size, ours);
        }
        let is = |word: &str| {
            let kind = kind.as_ref().and_then(|kind| kind.value.as_str());
            kind.is_some_and(|kind| kind.eq_ignore_ascii_case(word))
        };
        // Its default is a window that counts calls.
        if kind.is_none() || is("COUNT_BASED") {
            breaker.set("count_window", size.value);
        } else if let Some(kind) = kind.as_ref().filter(|_| !is("TIME_BASED")) {
            let expected = "`COUNT_BASED` or `TIME_BASED`";
            found.problems.push(kind.value.problem("slidingWindowType", expected));
        } else {
            let value = match size.value.value {
                Value::Integer(seconds) => Value::String(format!("{seconds}s")),
                other => other,
            };
            breaker.set("time_window", Node::new(value, size.value.place));
        }
    } else if let Some(kind) = kind {
        let missing = "needs `slidingWindowSize` beside it";
        found.problems.push(Problem::new(&kind.key_place, kind.key, missing));
    }
    let minimum = breaker.get("minimum_number_of_calls").cloned();
    words(breaker, "circuit_breaker", found);
    if let Some(Node { value: Value::Table(slow), place }) = breaker.get_mut("slow_calls") {
        let usual = |value| Node::new(value, place.clone());
        let minimum = minimum.unwrap_or_else(|| usual(Value::Integer(100)));
        let fields = [
            ("rate", usual(Value::Float(1.0))),
            ("duration", usual(Value::String("60s".to_owned()))),
            ("minimum_calls", minimum),
        ];
        for (field, value) in fields {
            if slow.get(field).is_none() {
                slow.set(field, value);
            }
        }
    }
}
