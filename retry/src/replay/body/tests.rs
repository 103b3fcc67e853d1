use std::collections::VecDeque;

use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio_test::{assert_pending, assert_ready, task::spawn};

use super::*;
use crate::{CloneRequest, Replay};

/// A body that gives what a test puts into it.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<(VecDeque<Gives>, Option<Waker>)>>);

type Gives = Option<Result<Frame<Bytes>, &'static str>>;

impl Script {
    fn give(&self, gives: impl IntoIterator<Item = Gives>) {
        let mut script = self.0.lock().expect("not poisoned");
        script.0.extend(gives);
        let waker = script.1.take();
        drop(script);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Gives> {
        let mut script = self.0.lock().expect("not poisoned");
        if let Some(gives) = script.0.pop_front() {
            return Poll::Ready(gives);
        }
        script.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as a body gives it")]
fn data(text: &'static str) -> Gives {
    Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
}

#[expect(clippy::unnecessary_wraps, reason = "as a body gives it")]
fn trailers() -> Gives {
    Some(Ok(Frame::trailers(HeaderMap::new())))
}

type Sent = Request<ReplayBody<Script>>;

fn keep(most: usize) -> (Script, Sent, Option<super::super::KeptRequest<Script>>) {
    let script = Script::default();
    let (first, kept) = Replay::up_to(most).keep(Request::put("/a").body(script.clone()).unwrap());
    (script, first, kept)
}

fn again(kept: &mut Option<super::super::KeptRequest<Script>>, is_last: bool) -> Option<Sent> {
    Replay::default().again(kept, is_last)
}

fn collect(request: Sent) -> Result<(String, bool), String> {
    let collected = assert_ready!(spawn(request.into_body().collect()).poll());
    let collected = collected.map_err(|error| error.to_string())?;
    let has_trailers = collected.trailers().is_some();
    Ok((String::from_utf8(collected.to_bytes().to_vec()).expect("text"), has_trailers))
}

#[test]
fn three_attempts_send_the_same_bytes_and_trailers() {
    let (script, first, mut kept) = keep(100);
    script.give([data("one "), data("two "), data("three"), trailers(), None]);
    let all = Ok(("one two three".to_owned(), true));
    assert_eq!(collect(first), all);
    assert_eq!(collect(again(&mut kept, false).expect("kept")), all);
    let last = again(&mut kept, true).expect("kept");
    assert!(kept.is_none(), "nothing is kept for the last");
    assert_eq!(last.uri(), "/a");
    assert_eq!(collect(last), all);
}

#[test]
fn the_first_attempt_streams() {
    let (script, first, _kept) = keep(100);
    let mut body = first.into_body();
    let mut frame = spawn(body.frame());
    assert_pending!(frame.poll());
    script.give([data("one")]);
    assert!(frame.is_woken());
    assert_ready!(frame.poll()).expect("a frame").expect("no error");
}

#[test]
fn an_attempt_goes_on_where_a_dropped_one_stopped() {
    let (script, first, mut kept) = keep(100);
    script.give([data("one ")]);
    let mut body = first.into_body();
    assert_ready!(spawn(body.frame()).poll()).expect("a frame").expect("no error");
    assert_pending!(spawn(body.frame()).poll());
    let second = again(&mut kept, false).expect("kept");
    drop(body);
    script.give([data("two"), None]);
    assert_eq!(collect(second), Ok(("one two".to_owned(), false)));
}

#[test]
fn two_attempts_at_a_time_both_get_all_and_both_are_woken() {
    let (script, first, mut kept) = keep(100);
    let second = again(&mut kept, false).expect("kept");
    let (mut first, mut second) =
        (spawn(first.into_body().collect()), spawn(second.into_body().collect()));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    script.give([data("one "), data("two"), None]);
    assert!(second.is_woken(), "it was the last to ask");
    assert_eq!(assert_ready!(second.poll()).expect("whole").to_bytes(), "one two");
    assert!(first.is_woken());
    assert_eq!(assert_ready!(first.poll()).expect("whole").to_bytes(), "one two");
}

#[test]
fn whichever_asked_last_both_are_woken_though_it_may_not_come_back() {
    let (script, first, mut kept) = keep(100);
    let second = again(&mut kept, false).expect("kept");
    let (mut first, mut second) =
        (spawn(first.into_body().collect()), spawn(second.into_body().collect()));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    script.give([data("one"), None]);
    assert!(first.is_woken() && second.is_woken());
    assert_eq!(assert_ready!(first.poll()).expect("whole").to_bytes(), "one");
}

#[test]
fn an_attempt_that_is_dropped_takes_no_wake_up_along() {
    let (script, first, mut kept) = keep(100);
    let second = again(&mut kept, false).expect("kept");
    let mut first = spawn(first.into_body().collect());
    assert_pending!(first.poll());
    let mut second = spawn(second.into_body().collect());
    assert_pending!(second.poll());
    drop(second);
    script.give([data("one"), None]);
    assert!(first.is_woken());
    assert_eq!(assert_ready!(first.poll()).expect("whole").to_bytes(), "one");
}

#[test]
fn an_attempt_that_joins_while_another_reads_is_woken_by_the_body() {
    /// Pending at its first poll after the call was made, in which a second attempt joins and asks.
    struct Joined(Arc<Mutex<Option<Join>>>, Script);
    type Join = Box<dyn FnOnce() + Send>;
    impl Body for Joined {
        type Data = Bytes;
        type Error = &'static str;
        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Gives> {
            let join = self.0.lock().expect("not poisoned").take();
            let polled = Pin::new(&mut self.1).poll_frame(cx);
            if let Some(join) = join {
                join();
            }
            polled
        }
    }
    let (script, join) = (Script::default(), Arc::new(Mutex::new(None)));
    let body = Joined(Arc::clone(&join), script.clone());
    let (first, mut kept) = Replay::default().keep(Request::new(body));
    let joined = Arc::new(Mutex::new(None));
    let will_join = Arc::clone(&joined);
    *join.lock().expect("not poisoned") = Some(Box::new(move || {
        let second = Replay::default().again(&mut kept, true).expect("kept");
        let mut second = spawn(second.into_body().collect());
        assert_pending!(second.poll(), "the first has the body just now");
        *will_join.lock().expect("not poisoned") = Some(second);
    }));
    assert_pending!(spawn(first.into_body().collect()).poll());
    script.give([data("one"), None]);
    let mut second = joined.lock().expect("not poisoned").take().expect("it has joined");
    assert!(second.is_woken(), "without the first, which is gone");
    assert_eq!(assert_ready!(second.poll()).expect("whole").to_bytes(), "one");
}

#[test]
fn who_got_its_frame_is_not_woken_again_for_it() {
    let (script, first, _kept) = keep(100);
    let mut body = first.into_body();
    let mut frames = spawn(std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)));
    assert_pending!(frames.poll());
    script.give([data("one")]);
    assert!(frames.is_woken());
    assert_ready!(frames.poll()).expect("a frame").expect("no error");
    assert!(!frames.is_woken());
}

#[test]
fn asking_with_many_wakers_keeps_only_the_last() {
    let (script, first, _kept) = keep(100);
    let mut body = first.into_body();
    let wakers: [_; 100] = std::array::from_fn(|_| Arc::new(Woken));
    for waker in &wakers {
        let waker = Waker::from(Arc::clone(waker));
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
    }
    drop(script);
    let held = wakers.iter().filter(|waker| Arc::strong_count(waker) > 1).count();
    assert_eq!(held, 1);
}

struct Woken;

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn many_tiny_frames_and_long_trailers_are_not_kept() {
    let (script, first, mut kept) = keep(usize::MAX);
    script.give((0..=Shared::<Script>::MOST_FRAMES).map(|_| data("x")).chain([None]));
    assert!(collect(first).is_ok());
    assert!(again(&mut kept, false).is_none());

    let (script, first, mut kept) = keep(100);
    let long = http::HeaderValue::try_from("x".repeat(100)).expect("a value");
    let trailers = HeaderMap::from_iter([(http::header::ETAG, long)]);
    script.give([data("one"), Some(Ok(Frame::trailers(trailers))), None]);
    assert_eq!(collect(first), Ok(("one".to_owned(), true)));
    assert!(again(&mut kept, false).is_none());
}

#[test]
fn beyond_the_bound_what_was_kept_is_dropped_at_once() {
    let (script, first, _kept) = keep(6);
    let bytes = Bytes::from(vec![7; 6]);
    script.give([Some(Ok(Frame::data(bytes.clone()))), data("7"), data("8")]);
    let mut body = first.into_body();
    assert_ready!(spawn(body.frame()).poll()).expect("a frame").expect("no error");
    assert!(!bytes.is_unique());
    assert_ready!(spawn(body.frame()).poll()).expect("a frame").expect("no error");
    assert!(bytes.is_unique());
}

#[test]
fn a_body_that_wakes_whoever_asks_before_it_answers_is_heard() {
    /// Pending. At its second poll after the call was made it wakes who asks.
    struct Yields(u32);
    impl Body for Yields {
        type Data = Bytes;
        type Error = &'static str;
        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Gives> {
            self.0 += 1;
            if self.0 == 3 {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }
    }
    let (first, mut kept) = Replay::default().keep(Request::new(Yields(0)));
    let _second = Replay::default().again(&mut kept, true).expect("kept");
    let mut first = spawn(first.into_body().collect());
    assert_pending!(first.poll());
    assert!(first.is_woken());
}

#[test]
fn frames_without_bytes_are_not_kept() {
    let (script, first, mut kept) = keep(3);
    let many = 10 * Shared::<Script>::MOST_FRAMES;
    script.give((0..many).map(|_| data("")).chain([data("one"), None]));
    let all = Ok(("one".to_owned(), false));
    assert_eq!(collect(first), all);
    assert_eq!(collect(again(&mut kept, true).expect("kept")), all);
}

#[test]
fn attempts_on_two_threads_both_get_every_byte() {
    for _ in 0..200 {
        let (script, first, mut kept) = keep(1_000);
        let second = again(&mut kept, true).expect("kept");
        let reading = [first, second].map(|request| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                let collected = request.into_body().collect();
                runtime.expect("a runtime").block_on(collected).expect("whole").to_bytes()
            })
        });
        (0..20).for_each(|_| script.give([data("frame ")]));
        script.give([None]);
        for read in reading {
            assert_eq!(read.join().expect("no panic"), "frame ".repeat(20));
        }
    }
}

#[test]
fn beyond_the_bound_the_attempt_goes_on_and_no_other_can_be_made() {
    let (script, first, mut kept) = keep(6);
    script.give([data("123"), data("456"), data("7"), data("89"), None]);
    assert_eq!(collect(first), Ok(("123456789".to_owned(), false)));
    assert!(again(&mut kept, false).is_none());
    assert!(kept.is_none(), "nothing is kept any more");
}

#[test]
fn beyond_the_bound_the_slower_of_two_attempts_fails_and_says_why() {
    let (script, first, mut kept) = keep(6);
    let second = again(&mut kept, false).expect("kept");
    script.give([data("123"), data("456"), data("7"), None]);
    assert_eq!(collect(second), Ok(("1234567".to_owned(), false)));
    assert_eq!(collect(first), Err(BodyLost.to_string()));
}

#[test]
fn a_body_known_to_be_too_long_is_not_kept() {
    let body = http_body_util::Full::new(Bytes::from_static(b"too long"));
    let (_, kept) = Replay::up_to(7).keep(Request::new(body));
    assert!(kept.is_none());
}

#[test]
fn a_request_without_a_body_needs_no_buffer() {
    let request = Request::new(Empty::<Bytes>::new());
    let (first, mut kept) = Replay::up_to(0).keep(request);
    let second = Replay::up_to(0).again(&mut kept, true).expect("kept");
    assert!(first.body().is_end_stream() && second.body().is_end_stream());
    assert_eq!(second.body().size_hint().exact(), Some(0));
}

#[test]
fn a_body_that_fails_fails_for_all_attempts() {
    let (script, first, mut kept) = keep(100);
    script.give([data("one"), Some(Err("disk"))]);
    let second = again(&mut kept, false).expect("kept");
    assert_eq!(collect(first), Err("disk".to_owned()));
    assert_eq!(collect(second), Err(BodyLost.to_string()));
    assert!(again(&mut kept, false).is_none());
}

#[test]
fn the_size_that_is_known_is_kept() {
    let body = http_body_util::Full::new(Bytes::from_static(b"12345"));
    let (mut first, mut kept) = Replay::default().keep(Request::new(body));
    assert_eq!(first.body().size_hint().exact(), Some(5));
    assert_ready!(spawn(first.body_mut().frame()).poll()).expect("a frame").expect("no error");
    assert!(first.body().is_end_stream());
    let second = Replay::default().again(&mut kept, true).expect("kept");
    assert_eq!(second.body().size_hint().exact(), Some(5));
    assert!(!second.body().is_end_stream());
}

#[test]
fn a_body_that_panics_leaves_no_other_attempt_waiting() {
    struct Panics(bool);
    impl Body for Panics {
        type Data = Bytes;
        type Error = &'static str;
        fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Gives> {
            assert!(!std::mem::replace(&mut self.0, true), "a body's own fault");
            Poll::Pending
        }
    }
    let (mut first, mut kept) = Replay::default().keep(Request::new(Panics(false)));
    let mut second = Replay::default().again(&mut kept, false).expect("kept");
    let polled = std::panic::AssertUnwindSafe(|| spawn(first.body_mut().frame()).poll().is_ready());
    std::panic::catch_unwind(polled).unwrap_err();
    let frame = assert_ready!(spawn(second.body_mut().frame()).poll()).expect("an error");
    assert!(frame.unwrap_err().is::<BodyLost>());
}

/// A request whose body gives `gives` at once, and what is kept of it.
fn keep_ready(gives: impl IntoIterator<Item = Gives>) -> (Script, Sent, Option<KeptScript>) {
    let script = Script::default();
    script.give(gives);
    let request = Request::put("/a").body(script.clone()).expect("valid");
    let (first, kept) = Replay::up_to(6).keep(request);
    (script, first, kept)
}

type KeptScript = super::super::KeptRequest<Script>;

#[test]
fn a_body_of_one_frame_is_read_at_once_and_says_its_end() {
    let (_, first, mut kept) = keep_ready([data("one"), None]);
    let second = again(&mut kept, false).expect("kept");
    let third = again(&mut kept, true).expect("kept");
    for mut attempt in [first, second, third] {
        let hint = attempt.body().size_hint();
        assert_eq!((hint.lower(), hint.exact()), (3, None), "as the body said it");
        assert!(!attempt.body().is_end_stream());
        assert_ready!(spawn(attempt.body_mut().frame()).poll()).expect("a frame").expect("data");
        assert!(attempt.body().is_end_stream());
        assert!(assert_ready!(spawn(attempt.body_mut().frame()).poll()).is_none());
    }
}

#[test]
fn what_comes_after_the_frame_that_was_read_at_once_comes_once_and_in_order() {
    let all = Ok(("onetwo".to_owned(), true));
    let (script, first, mut kept) = keep_ready([data("one"), data("two")]);
    assert_eq!(first.body().size_hint().lower(), 6);
    script.give([trailers(), None]);
    assert_eq!(collect(first), all);
    assert_eq!(collect(again(&mut kept, true).expect("kept")), all);

    let (script, first, mut kept) = keep_ready([data("one")]);
    script.give([data("two"), trailers(), None]);
    assert_eq!(collect(first), all);
    assert_eq!(collect(again(&mut kept, true).expect("kept")), all);

    let (_, first, mut kept) = keep_ready([trailers(), None]);
    assert_eq!(collect(first), Ok((String::new(), true)));
    assert_eq!(collect(again(&mut kept, true).expect("kept")), Ok((String::new(), true)));
}

#[test]
fn what_is_too_much_or_fails_at_once_is_given_to_the_first_attempt_alone() {
    let (_, first, mut kept) = keep_ready([data("too long"), data("er"), None]);
    assert_eq!(collect(first), Ok(("too longer".to_owned(), false)));
    assert!(again(&mut kept, false).is_none());

    let (_, first, mut kept) = keep_ready([data("four"), data("more"), data("!"), None]);
    assert_eq!(collect(first), Ok(("fourmore!".to_owned(), false)));
    assert!(again(&mut kept, false).is_none());

    for gives in [vec![], vec![data("one")]] {
        let (_, first, mut kept) = keep_ready(gives.into_iter().chain([Some(Err("disk"))]));
        assert_eq!(collect(first), Err("disk".to_owned()));
        assert!(again(&mut kept, false).is_none());
    }
}

#[test]
fn a_body_that_is_over_at_once_is_empty() {
    let (_, first, mut kept) = keep_ready([None]);
    assert!(first.body().is_end_stream());
    assert_eq!(collect(again(&mut kept, true).expect("kept")), Ok((String::new(), false)));
}

#[test]
fn the_head_is_sent_again_as_it_was() {
    let mut request = Request::put("/a").version(http::Version::HTTP_2).body(Script::default());
    let headers = request.as_mut().expect("valid").headers_mut();
    for number in 0..9 {
        headers.append("x-many", http::HeaderValue::from(number));
    }
    headers.insert("te", http::HeaderValue::from_static("trailers"));
    let mut secret = http::HeaderValue::from_static("secret");
    secret.set_sensitive(true);
    headers.insert("authorization", secret);
    request.as_mut().expect("valid").extensions_mut().insert(7_u8);
    let (first, mut kept) = Replay::default().keep(request.expect("valid"));
    for is_last in [false, true] {
        let again = again(&mut kept, is_last).expect("kept");
        assert_eq!(first.headers(), again.headers());
        assert!(again.headers()["authorization"].is_sensitive());
        let head = |request: &Sent| (request.method().clone(), request.uri().clone());
        assert_eq!(head(&first), head(&again));
        assert_eq!(again.version(), http::Version::HTTP_2);
        assert_eq!(again.extensions().get(), Some(&7_u8));
    }
}
