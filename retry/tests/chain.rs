//! What a server's handlers learn of the call that they serve, and what its caller learns of them.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Empty;
use outrigger_core::{AttemptContext, Criticality};
use outrigger_retry::{Backoff, Chain, ChainLayer, RetryBudget, RetryLayer, RetryPolicy};
use tokio::time::Instant;
use tower::{BoxError, Layer, ServiceExt, service_fn};

const MARK: &str = "rpc-persist-retryreq";
const PREVIOUS: &str = "grpc-previous-rpc-attempts";
const PUSHBACK: &str = "grpc-retry-pushback-ms";

fn with(headers: &[(&'static str, &'static str)]) -> Request<()> {
    let builder = Request::builder();
    let add =
        |builder: http::request::Builder, (name, value): &(_, _)| builder.header(*name, *value);
    headers.iter().fold(builder, add).body(()).unwrap()
}

/// What a handler sees: when it is called, when it is polled, and in its request.
#[derive(Debug)]
struct Seen {
    at_call: Chain,
    at_poll: Chain,
    context: Option<AttemptContext>,
}

async fn serve(request: Request<()>) -> Seen {
    let handler = service_fn(|request: Request<()>| {
        let at_call = Chain::current();
        async move {
            tokio::task::yield_now().await;
            let context = request.extensions().get().cloned();
            Ok::<_, BoxError>(Response::new(Seen { at_call, at_poll: Chain::current(), context }))
        }
    });
    let seen = ChainLayer::new().layer(handler).oneshot(request).await.unwrap().into_body();
    assert_eq!(Chain::current(), Chain::default(), "nothing is left behind");
    assert_eq!(seen.at_call, seen.at_poll);
    seen
}

#[tokio::test]
async fn either_mark_says_that_the_call_is_a_retry() {
    for (headers, is_retry) in [
        (&[][..], false),
        (&[(MARK, "1")], true),
        (&[(MARK, "5")], true),
        (&[(PREVIOUS, "2")], true),
        (&[(MARK, "0")], false),
        (&[(PREVIOUS, "0")], false),
        (&[(MARK, "0"), (PREVIOUS, "1")], true),
    ] {
        let seen = serve(with(headers)).await;
        assert_eq!(seen.at_poll.is_retry(), is_retry, "{headers:?}");
        assert_eq!(seen.context.is_some_and(|it| it.caller_is_retry), is_retry, "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_came_in_is_seen_and_put_into_the_context() {
    let deadline = Instant::now() + Duration::from_millis(250);
    let seen = serve(with(&[("grpc-timeout", "250m")])).await;
    assert_eq!(seen.at_poll.deadline(), Some(deadline));
    assert_eq!(seen.context.unwrap().deadline, Some(deadline));
}

#[tokio::test]
async fn what_the_context_said_before_stays() {
    let mut request = with(&[(MARK, "1")]);
    let mut context = AttemptContext::default();
    context.criticality = Some(Criticality::Sheddable);
    context.deadline = Some(Instant::now() + Duration::from_secs(9));
    request.extensions_mut().insert(context.clone());
    let seen = serve(request).await;
    assert_eq!(seen.at_poll.deadline(), context.deadline);
    let got = seen.context.unwrap();
    assert_eq!((got.criticality, got.deadline), (context.criticality, context.deadline));
    assert!(got.caller_is_retry);
}

#[tokio::test]
async fn a_call_that_says_nothing_gets_no_context() {
    assert!(serve(with(&[])).await.context.is_none());
}

/// A handler that asks a callee with two retries, and then answers as `answer` says.
async fn ask_and_answer(
    callee: impl Fn(HeaderMap) -> StatusCode + Clone,
    request: Request<()>,
    answer: impl Fn(StatusCode) -> Response<()>,
) -> Response<()> {
    let policy = RetryPolicy::failure().idempotent(true).backoff(Backoff::None).build().unwrap();
    let callee = service_fn(move |request: Request<_>| {
        let mut response = Response::new(());
        *response.status_mut() = callee(request.headers().clone());
        let _: &Request<outrigger_retry::ReplayBody<Empty<bytes::Bytes>>> = &request;
        ready(Ok::<_, BoxError>(response))
    });
    let client = RetryLayer::new(policy).budget(RetryBudget::unlimited()).http().layer(callee);
    let handler = service_fn(|_: Request<()>| {
        let asked = client.clone().oneshot(Request::new(Empty::new()));
        async { Ok::<_, BoxError>(answer(asked.await?.status())) }
    });
    ChainLayer::new().layer(handler).oneshot(request).await.unwrap()
}

fn failing(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}

#[tokio::test]
async fn what_a_retry_asks_for_is_marked_as_one_and_not_retried() {
    for (headers, expected) in [
        (&[][..], vec![None, Some("1".to_owned()), Some("2".to_owned())]),
        (&[(MARK, "2")], vec![Some("1".to_owned())]),
    ] {
        let marks = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&marks);
        let callee = move |headers: HeaderMap| {
            let mark = headers.get(MARK).map(|mark| mark.to_str().unwrap().to_owned());
            noted.lock().unwrap().push(mark);
            StatusCode::SERVICE_UNAVAILABLE
        };
        ask_and_answer(callee, with(headers), failing).await;
        assert_eq!(*marks.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn who_is_further_up_hears_that_the_retries_gave_up() {
    let down = |_: HeaderMap| StatusCode::SERVICE_UNAVAILABLE;
    let answer = ask_and_answer(down, with(&[]), failing).await;
    assert_eq!(answer.headers()[PUSHBACK], "-1");

    let of_grpc = |_| Response::builder().header("grpc-status", "14").body(()).unwrap();
    let answer = ask_and_answer(down, with(&[]), of_grpc).await;
    assert_eq!(answer.headers()[PUSHBACK], "-1");
}

#[tokio::test]
async fn an_answer_that_needs_no_retry_or_says_when_itself_stays_as_it_is() {
    let down = |_: HeaderMap| StatusCode::SERVICE_UNAVAILABLE;
    let fine = |_| Response::new(());
    assert!(!ask_and_answer(down, with(&[]), fine).await.headers().contains_key(PUSHBACK));
    let fine = |_| Response::builder().header("grpc-status", "0").body(()).unwrap();
    assert!(!ask_and_answer(down, with(&[]), fine).await.headers().contains_key(PUSHBACK));
    let not_found = |_| failing(StatusCode::NOT_FOUND);
    assert!(!ask_and_answer(down, with(&[]), not_found).await.headers().contains_key(PUSHBACK));

    let says_itself = |_| Response::builder().status(503).header(PUSHBACK, "70").body(()).unwrap();
    let answer = ask_and_answer(down, with(&[]), says_itself).await;
    assert_eq!(answer.headers()[PUSHBACK], "70");

    let up = |_: HeaderMap| StatusCode::OK;
    let own_fault = |_| failing(StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!ask_and_answer(up, with(&[]), own_fault).await.headers().contains_key(PUSHBACK));
}
