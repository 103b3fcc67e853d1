use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tokio::time::Instant;

use super::{AttemptKind, protocol::Protocol};

/// One attempt on its way: the inner service's future, then what its response needs to be judged.
#[pin_project]
#[derive(Debug)]
pub(super) struct Attempt<F, W> {
    pub(super) number: u32,
    pub(super) kind: AttemptKind,
    /// When it was sent, where that matters.
    pub(super) sent_at: Option<Instant>,
    #[pin]
    pub(super) progress: Progress<F, W>,
}

#[pin_project(project = ProgressProj)]
#[derive(Debug)]
pub(super) enum Progress<F, W> {
    Calling(#[pin] F),
    Settling(#[pin] W),
}

impl<F, W> Attempt<F, W> {
    pub(super) const fn new(
        number: u32,
        kind: AttemptKind,
        sent_at: Option<Instant>,
        response: F,
    ) -> Self {
        Self { number, kind, sent_at, progress: Progress::Calling(response) }
    }

    /// Ready with what the inner service gave, once it can be judged.
    pub(super) fn poll_answer<Request, P, Response, Error>(
        self: Pin<&mut Self>,
        protocol: &P,
        unary: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<P::Answer, Error>>
    where
        F: Future<Output = Result<Response, Error>>,
        P: Protocol<Request, Response, Error, Settle = W>,
        W: Future<Output = P::Answer>,
    {
        let mut progress = self.project().progress;
        loop {
            match progress.as_mut().project() {
                ProgressProj::Calling(response) => {
                    let response = match ready!(response.poll(cx)) {
                        Ok(response) => response,
                        Err(error) => return Poll::Ready(Err(error)),
                    };
                    progress.set(Progress::Settling(protocol.settle(response, unary)));
                }
                ProgressProj::Settling(settle) => return settle.poll(cx).map(Ok),
            }
        }
    }
}

/// What is known of an attempt when it ends.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub(super) number: u32,
    pub(super) kind: AttemptKind,
    pub(super) sent_at: Option<Instant>,
}

impl Ended {
    pub(super) const fn of<F, W>(attempt: &Attempt<F, W>) -> Self {
        Self { number: attempt.number, kind: attempt.kind, sent_at: attempt.sent_at }
    }
}
