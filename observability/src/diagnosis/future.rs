use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{Response, StatusCode};
use http_body::Body;
use pin_project::pin_project;

use super::{
    body::DiagnosisBody,
    handle::Diagnosis,
    service::{obey, text},
};

/// An order is no longer than this.
const MOST_BYTES: usize = 4 * 1024;

/// The answer of [`DiagnosisService`](crate::DiagnosisService): at once, but for an order, whose
/// body is read first.
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct DiagnosisFuture<B> {
    #[pin]
    state: State<B>,
}

#[pin_project(project = StateProjection)]
enum State<B> {
    Answered {
        response: Option<Response<DiagnosisBody>>,
    },
    Reading {
        diagnosis: Diagnosis,
        read: Vec<u8>,
        #[pin]
        body: B,
    },
}

impl<B> DiagnosisFuture<B> {
    pub(super) const fn done(response: Response<DiagnosisBody>) -> Self {
        Self { state: State::Answered { response: Some(response) } }
    }

    pub(super) const fn reading(diagnosis: Diagnosis, body: B) -> Self {
        Self { state: State::Reading { diagnosis, read: Vec::new(), body } }
    }
}

impl<B: Body> Future for DiagnosisFuture<B> {
    type Output = Result<Response<DiagnosisBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let response = match state.as_mut().project() {
            StateProjection::Answered { response } => {
                response.take().expect("polled after it was ready")
            }
            StateProjection::Reading { diagnosis, read, body } => {
                let response = ready!(poll_order(diagnosis, read, body, cx));
                state.set(State::Answered { response: None });
                response
            }
        };
        Poll::Ready(Ok(response))
    }
}

fn poll_order<B: Body>(
    diagnosis: &Diagnosis,
    read: &mut Vec<u8>,
    mut body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Response<DiagnosisBody>> {
    loop {
        let Some(frame) = ready!(body.as_mut().poll_frame(cx)) else {
            return Poll::Ready(obey(diagnosis, read));
        };
        let Ok(frame) = frame else {
            let told = "the order broke off\n";
            return Poll::Ready(text(StatusCode::BAD_REQUEST, told));
        };
        let Ok(mut data) = frame.into_data() else { continue };
        if read.len() + data.remaining() > MOST_BYTES {
            let told = "an order is no longer than 4 KiB\n";
            return Poll::Ready(text(StatusCode::PAYLOAD_TOO_LARGE, told));
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            read.extend_from_slice(chunk);
            let length = chunk.len();
            data.advance(length);
        }
    }
}

impl<B> fmt::Debug for DiagnosisFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiagnosisFuture").finish_non_exhaustive()
    }
}
