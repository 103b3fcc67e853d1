//! The laws of a layer that follows a call to the end of its body.
//!
//! The layer is made ready for HTTP by `make`: with `.http()` or `.grpc()`, where it has them.

use std::{pin::Pin, task::Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use tokio_test::task;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    bench::{Bench, check_service, panics_as_scripted},
    cancelling::TIMES,
};
use crate::{Answer, Frames, ScriptedError, ScriptedHttp, start::make_ready};

/// How many frames of data a body has.
const SOME: usize = 2;

/// Checks every law of this module.
///
/// # Panics
///
/// When a law is broken.
pub fn all<L, B>(make: impl Fn() -> L)
where
    L: Layer<ScriptedHttp>,
    L::Service: Service<Request<()>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    a_body_passes_as_it_is(&make);
    dropping_a_body_at_any_frame_leaves_nothing_behind(&make);
    a_panic_in_a_body_leaves_nothing_behind(&make);
    a_body_that_is_over_but_kept_leaves_nothing_behind(&make);
}

/// A body's frames, trailers and errors come out as they went in, and it ends when the inner one
/// does.
///
/// # Panics
///
/// When the law is broken.
pub fn a_body_passes_as_it_is<L, B>(make: impl Fn() -> L)
where
    L: Layer<ScriptedHttp>,
    L::Service: Service<Request<()>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let bodies =
        [Frames::Empty, Frames::Data(SOME), Frames::Trailers(SOME), Frames::ErrorAfter(SOME)];
    for body in bodies {
        check(&make, |mut bench| {
            bench.script.body(body);
            let mut received = bench.head();
            let (is_end, is_empty) = (received.is_end_stream(), body == Frames::Empty);
            assert!(is_end == is_empty, "law broken: `is_end_stream` is {is_end} of {body:?}");
            let (mut data, mut trailers, mut failed) = (0, 0, false);
            while let Some(frame) = next_frame(received.as_mut()) {
                match frame {
                    Ok(frame) if frame.is_data() => data += 1,
                    Ok(_) => trailers += 1,
                    Err(error) => {
                        let error = error.into();
                        let same = error.is::<ScriptedError>();
                        assert!(same, "law broken: the error of a body became {error:?}");
                        failed = true;
                    }
                }
            }
            let right = match body {
                Frames::Trailers(data) => (data, 1, false),
                Frames::ErrorAfter(data) => (data, 0, true),
                Frames::Data(data) => (data, 0, false),
                _ => (0, 0, false),
            };
            let got = (data, trailers, failed);
            assert!(
                got == right,
                "law broken: (data, trailers, failed) of {body:?} became {got:?}"
            );
        });
    }
}

/// A body that is dropped, at whatever frame, gives everything back.
///
/// # Panics
///
/// When the law is broken.
pub fn dropping_a_body_at_any_frame_leaves_nothing_behind<L, B>(make: impl Fn() -> L)
where
    L: Layer<ScriptedHttp>,
    L::Service: Service<Request<()>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    for polls in 0..=2 * SOME + 1 {
        check(&make, |mut bench| {
            for _ in 0..TIMES {
                bench.script.body(Frames::Trailers(SOME));
                let mut body = bench.head();
                for _ in 0..polls {
                    let _ = task::spawn(()).enter(|cx, _| body.as_mut().poll_frame(cx));
                }
            }
            bench.leaves_nothing(&format!("{TIMES} bodies dropped after {polls} polls"));
        });
    }
}

/// A panic of a body gives everything back: both when the body is dropped by the panic itself, and
/// when the panic is caught first.
///
/// # Panics
///
/// When the law is broken.
pub fn a_panic_in_a_body_leaves_nothing_behind<L, B>(make: impl Fn() -> L)
where
    L: Layer<ScriptedHttp>,
    L::Service: Service<Request<()>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    for frames in 0..=SOME {
        for is_dropped_later in [false, true] {
            check(&make, |mut bench| {
                for _ in 0..TIMES {
                    bench.script.body(Frames::PanicAfter(frames));
                    let mut body = bench.head();
                    let panicked = if is_dropped_later {
                        panics_as_scripted(|| while next_frame(body.as_mut()).is_some() {})
                    } else {
                        panics_as_scripted(move || while next_frame(body.as_mut()).is_some() {})
                    };
                    assert!(panicked, "law broken: the panic of the body was swallowed");
                }
                bench.leaves_nothing(&format!("{TIMES} panics of bodies after {frames} frames"));
            });
        }
    }
}

/// A body that was read to its end but is kept holds none of the layer's own: the next call goes
/// through.
///
/// # Panics
///
/// When the law is broken.
pub fn a_body_that_is_over_but_kept_leaves_nothing_behind<L, B>(make: impl Fn() -> L)
where
    L: Layer<ScriptedHttp>,
    L::Service: Service<Request<()>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    for body in
        [Frames::Empty, Frames::Data(SOME), Frames::Trailers(SOME), Frames::ErrorAfter(SOME)]
    {
        check(&make, |mut bench| {
            let mut kept = Vec::new();
            for _ in 0..TIMES {
                bench.script.body(body);
                let mut received = bench.head();
                // A body that is known to be over need not be polled.
                while !received.is_end_stream() {
                    drop(next_frame(received.as_mut()));
                }
                kept.push(received);
            }
            bench.calls_again(&format!("{TIMES} bodies that are over but kept, {body:?}"));
            drop(kept);
        });
    }
}

fn check<L, R>(make: impl Fn() -> L, law: impl FnOnce(Bench<'_, L::Service>) -> R) -> R
where
    L: Layer<ScriptedHttp>,
{
    check_service(|script| make().layer(ScriptedHttp::new(script)), law)
}

/// The next frame of a body that wakes itself.
fn next_frame<B: http_body::Body>(
    mut body: Pin<&mut B>,
) -> Option<Result<http_body::Frame<B::Data>, B::Error>> {
    let mut task = task::spawn(());
    for _ in 0..2 {
        if let Poll::Ready(frame) = task.enter(|cx, _| body.as_mut().poll_frame(cx)) {
            return frame;
        }
        assert!(task.is_woken(), "law broken: a wake-up of the inner body was lost");
    }
    panic!("law broken: a frame of the inner body is ready, but the layer's is pending")
}

impl<S, B> Bench<'_, S>
where
    S: Service<Request<()>, Response = Response<B>, Error = BoxError>,
{
    /// Makes a call, and gives the body of its response.
    fn head(&mut self) -> Pin<Box<B>> {
        make_ready(&mut self.service);
        let mut call = task::spawn(self.service.call(Request::new(())));
        let response = self.clock.finish(&mut call);
        Box::pin(
            response.expect("law broken: a call does not go through, as those before").into_body(),
        )
    }

    fn leaves_nothing(&mut self, after: &str) {
        self.clock.settle();
        let bodies = self.script.bodies_alive();
        assert!(bodies == 0, "law broken: {bodies} inner bodies are still alive after {after}");
        self.calls_again(after);
    }

    fn calls_again(&mut self, after: &str) {
        self.script.answer(Answer::Ok);
        self.script.body(Frames::Empty);
        make_ready(&mut self.service);
        let mut call = task::spawn(self.service.call(Request::new(())));
        let poll = call.poll();
        let goes_through = matches!(poll, Poll::Ready(Ok(_)));
        assert!(goes_through, "law broken: the next call does not go through after {after}");
    }
}
