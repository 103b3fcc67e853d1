//! The attempts of one call, from the first to the answer.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use outrigger_core::{AttemptContext, Classify, Enforcement, Observe, Outcome, Rejection};
use pin_project::{pin_project, pinned_drop};
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use super::{
    AttemptKind, BackupDelay, Retry, RetryEvent, StopReason,
    attempt::Attempt,
    engine::{Plan, Verdict, Wait},
    protocol::{Advice, Protocol},
};
use crate::{CloneRequest, RetryShare, Sent};

type AttemptOf<S, R, P, Request> = Attempt<
    <S as Service<<R as CloneRequest<Request>>::Sent>>::Future,
    <P as Protocol<
        <R as CloneRequest<Request>>::Sent,
        <S as Service<<R as CloneRequest<Request>>::Sent>>::Response,
        <S as Service<<R as CloneRequest<Request>>::Sent>>::Error,
    >>::Settle,
>;

type Boxed<S, R, P, Request> = Pin<Box<AttemptOf<S, R, P, Request>>>;

type OutputOf<S, R, P, Request> = Result<
    <P as Protocol<
        <R as CloneRequest<Request>>::Sent,
        <S as Service<<R as CloneRequest<Request>>::Sent>>::Response,
        <S as Service<<R as CloneRequest<Request>>::Sent>>::Error,
    >>::Answer,
    <S as Service<<R as CloneRequest<Request>>::Sent>>::Error,
>;

#[pin_project(PinnedDrop)]
pub(super) struct Race<S, R, P, C, O, Request>
where
    S: Service<R::Sent>,
    R: CloneRequest<Request>,
    P: Protocol<R::Sent, S::Response, S::Error>,
{
    retry: Retry<O>,
    plan: Plan,
    parts: Parts<S, R, P, C, R::Kept>,
    context: AttemptContext,
    /// The first attempt, and each that is sent when none is on its way any more.
    #[pin]
    attempt: Option<AttemptOf<S, R, P, Request>>,
    // Boxed, since they are sent only when the first is late or has failed.
    beside: Vec<Boxed<S, R, P, Request>>,
    next: Option<Next>,
    /// Runs until `next` is due.
    #[pin]
    timer: Option<Sleep>,
    /// A further attempt that waits for the inner service to be ready.
    sending: Option<Sending<R::Sent>>,
    /// How the last attempt that counts failed.
    failure: Option<(Sent, OutputOf<S, R, P, Request>)>,
}

pub(super) struct Parts<S, R, P, C, Kept> {
    /// What further attempts are made with; `None` when there can be none.
    pub(super) service: Option<S>,
    pub(super) kept: Option<Kept>,
    pub(super) replay: R,
    pub(super) protocol: P,
    pub(super) classifier: C,
}

/// The further attempt that comes next.
struct Next {
    /// `None` is at once.
    at: Option<Instant>,
    kind: AttemptKind,
    /// A retry holds its share while it waits; a backup request takes it when it is due.
    share: Option<RetryShare>,
}

impl Next {
    fn backup(at: Instant, now: Instant) -> Self {
        Self { at: (at > now).then_some(at), kind: AttemptKind::Backup, share: None }
    }
}

struct Sending<Request> {
    request: Request,
    kind: AttemptKind,
    share: Option<RetryShare>,
}

impl<S, R, P, C, O, Request> Race<S, R, P, C, O, Request>
where
    S: Service<R::Sent>,
    R: CloneRequest<Request>,
    P: Protocol<R::Sent, S::Response, S::Error>,
    O: Observe<RetryEvent>,
{
    /// Begins with the first attempt, which `response` is the future of.
    pub(super) fn begin(
        retry: Retry<O>,
        mut plan: Plan,
        parts: Parts<S, R, P, C, R::Kept>,
        context: AttemptContext,
        response: S::Future,
    ) -> Self {
        let now = plan.needs_start().then(Instant::now);
        let is_shadow = plan.policy().enforcement() == Enforcement::Shadow;
        let mut next = None;
        if let Some(now) = now {
            plan.begin(now);
            // Where no request could be sent, no timer need run.
            if parts.kept.is_some() || is_shadow {
                let at = plan.backup_at(now, |quantile| retry.latencies().delay(quantile, now));
                next = at.map(|at| Next::backup(at, now));
            }
        }
        let number = plan.count(AttemptKind::First);
        retry.tell(RetryEvent::AttemptSent { number, kind: AttemptKind::First, shadow: false });
        let attempt = Attempt::new(number, AttemptKind::First, now, response);
        Self {
            retry,
            plan,
            parts,
            context,
            attempt: Some(attempt),
            beside: Vec::new(),
            next,
            timer: None,
            sending: None,
            failure: None,
        }
    }
}

impl<S, R, P, C, O, Request> Race<S, R, P, C, O, Request>
where
    S: Service<R::Sent>,
    S::Error: From<Rejection>,
    R: CloneRequest<Request>,
    P: Protocol<R::Sent, S::Response, S::Error>,
    C: Classify<P::Answer, S::Error>,
    O: Observe<RetryEvent>,
{
    /// Ready with the answer.
    pub(super) fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<OutputOf<S, R, P, Request>> {
        loop {
            if let Some(answer) = self.as_mut().poll_attempts(cx) {
                return Poll::Ready(answer);
            }
            if self.sending.is_some() {
                ready!(self.as_mut().poll_send(cx));
                continue;
            }
            if self.next.is_none() {
                if !self.is_running() {
                    return Poll::Ready(self.take_failure());
                }
                return Poll::Pending;
            }
            ready!(self.as_mut().poll_due(cx));
            self.as_mut().begin_sending();
        }
    }

    fn is_running(&self) -> bool {
        self.attempt.is_some() || !self.beside.is_empty()
    }

    fn take_failure(self: Pin<&mut Self>) -> OutputOf<S, R, P, Request> {
        let failure = self.project().failure.take();
        failure.expect("a call without attempts has failed").1
    }

    fn poll_attempts(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Option<OutputOf<S, R, P, Request>> {
        let mut this = self.as_mut().project();
        let unary = this.plan.policy().is_unary();
        if let Some(attempt) = this.attempt.as_mut().as_pin_mut() {
            let protocol = &this.parts.protocol;
            let ended = Ended::of(&attempt);
            if let Poll::Ready(result) =
                attempt.poll_answer::<R::Sent, P, S::Response, S::Error>(protocol, unary, cx)
            {
                this.attempt.set(None);
                if let Some(answer) = self.as_mut().ended(ended, result) {
                    return Some(answer);
                }
            }
        }
        let mut position = 0;
        loop {
            let this = self.as_mut().project();
            let attempt = this.beside.get_mut(position)?;
            let ended = Ended::of(attempt);
            let polled = attempt.as_mut().poll_answer::<R::Sent, P, S::Response, S::Error>(
                &this.parts.protocol,
                unary,
                cx,
            );
            if let Poll::Ready(result) = polled {
                this.beside.remove(position);
                if let Some(answer) = self.as_mut().ended(ended, result) {
                    return Some(answer);
                }
            } else {
                position += 1;
            }
        }
    }

    /// `winner` gave the answer: what is still on its way is cancelled with this future.
    fn tell_who_won(self: Pin<&mut Self>, winner: Ended) {
        let this = self.project();
        if winner.kind == AttemptKind::Backup {
            this.retry.tell(RetryEvent::BackupWon { number: winner.number });
        }
        let first = this.attempt.as_ref().as_pin_ref().map(|attempt| Ended::of(&attempt));
        let beside = this.beside.iter().map(|attempt| Ended::of(attempt));
        for loser in first.into_iter().chain(beside) {
            if loser.kind == AttemptKind::Backup {
                this.retry.tell(RetryEvent::BackupLost { number: loser.number });
            }
        }
    }

    /// An attempt has ended: gives the answer, if it is one.
    fn ended(
        mut self: Pin<&mut Self>,
        ended: Ended,
        result: OutputOf<S, R, P, Request>,
    ) -> Option<OutputOf<S, R, P, Request>> {
        let this = self.as_mut().project();
        let protocol = &this.parts.protocol;
        let outcome = protocol.classify(&this.parts.classifier, result.as_ref());
        let advice = protocol.advice(result.as_ref());
        this.retry.tell(RetryEvent::AttemptEnded { number: ended.number, outcome });
        // What fails fast says nothing about how long an answer takes.
        match outcome {
            Outcome::Success => {
                learn_latency(this.retry, this.plan, ended.sent_at, LatencyOf::Whole);
            }
            Outcome::Timeout => {
                learn_latency(this.retry, this.plan, ended.sent_at, LatencyOf::Cut);
            }
            Outcome::Failure | Outcome::Ignored => {}
        }

        let verdict = this.plan.judge(outcome, &advice);
        match verdict {
            Verdict::Answer => {
                if outcome == Outcome::Success {
                    this.retry.budget().record_success();
                }
                self.tell_who_won(ended);
                return Some(result);
            }
            Verdict::Unprocessed => self.as_mut().plan_next(None, AttemptKind::Transparent, None),
            Verdict::Failed => {
                this.retry.budget().record_failure();
                self.as_mut().plan_retry(&advice);
            }
            Verdict::Final(reason) => self.as_mut().stop(reason),
        }
        self.keep_failure(advice.sent, result);
        None
    }

    /// The last failure is the answer if no other comes; but one that reached the peer says more
    /// than one that did not.
    fn keep_failure(self: Pin<&mut Self>, sent: Sent, result: OutputOf<S, R, P, Request>) {
        let failure = self.project().failure;
        let says_more = !matches!((&failure, sent), (Some((Sent::Maybe, _)), Sent::No));
        if says_more {
            *failure = Some((sent, result));
        }
    }

    /// An attempt failed: plans the next, if there is to be one.
    fn plan_retry(mut self: Pin<&mut Self>, advice: &Advice) {
        let mut this = self.as_mut().project();
        if this.sending.is_some()
            || this.next.as_ref().is_some_and(|next| next.kind != AttemptKind::Backup)
        {
            // Another is on its way already.
            return;
        }
        let planned =
            this.plan.wait_after_failure(advice.pushback, this.retry.seeds(), Instant::now);
        let wait = match planned {
            Ok(wait) => wait,
            Err(reason) => return self.stop(reason),
        };
        let Some(share) = this.retry.budget().try_acquire() else {
            this.retry.tell(RetryEvent::BudgetExhausted { kind: AttemptKind::Retry });
            *this.next = None;
            return this.timer.set(None);
        };
        let at = match wait {
            Wait::AtOnce => None,
            Wait::For(wait) => {
                let number = this.plan.next_number();
                this.retry.tell(RetryEvent::RetryScheduled { number, wait });
                // A wait beyond all time is one that a policy cannot have.
                Instant::now().checked_add(wait)
            }
        };
        self.plan_next(at, AttemptKind::Retry, Some(share));
    }

    fn plan_next(
        self: Pin<&mut Self>,
        at: Option<Instant>,
        kind: AttemptKind,
        share: Option<RetryShare>,
    ) {
        let mut this = self.project();
        this.timer.set(None);
        *this.next = None;
        if this.plan.policy().enforcement() == Enforcement::Shadow {
            // Nobody waits for what is not sent, and its share goes back.
            let number = this.plan.count(kind);
            return this.retry.tell(RetryEvent::AttemptSent { number, kind, shadow: true });
        }
        *this.next = Some(Next { at, kind, share });
    }

    /// No further attempt comes; those on their way go on.
    fn stop(self: Pin<&mut Self>, reason: Option<StopReason>) {
        let mut this = self.project();
        *this.next = None;
        this.timer.set(None);
        if let Some(reason) = reason {
            // One that waits for the inner service to be ready is not sent any more.
            *this.sending = None;
            this.plan.stop(reason);
            this.retry.tell(RetryEvent::Stopped { reason });
        }
    }

    /// Ready when the next attempt is due.
    fn poll_due(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(Next { at: Some(at), .. }) = this.next else { return Poll::Ready(()) };
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(*at)));
        }
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
        }
        this.timer.set(None);
        Poll::Ready(())
    }

    /// The next attempt is due: takes its share and its request.
    fn begin_sending(self: Pin<&mut Self>) {
        let this = self.project();
        let Some(Next { kind, share, .. }) = this.next.take() else { return };
        let share = match kind {
            AttemptKind::Backup => {
                let share = this.retry.budget().try_acquire();
                if share.is_none() {
                    return this.retry.tell(RetryEvent::BudgetExhausted { kind });
                }
                share
            }
            _ => share,
        };
        if this.plan.policy().enforcement() == Enforcement::Shadow {
            // The share goes back: what is not sent costs nothing.
            let number = this.plan.count(kind);
            return this.retry.tell(RetryEvent::AttemptSent { number, kind, shadow: true });
        }
        let is_last = this.plan.next_is_last(kind);
        let Parts { kept, replay, .. } = this.parts;
        if let Some(request) = replay.again(kept, is_last) {
            *this.sending = Some(Sending { request, kind, share });
        } else {
            this.plan.stop(StopReason::ReplayImpossible);
            this.retry.tell(RetryEvent::ReplayImpossible);
        }
    }

    /// Ready when the further attempt is on its way, or has failed to be.
    fn poll_send(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.as_mut().project();
        let Some(service) = this.parts.service.as_mut() else {
            *this.sending = None;
            return Poll::Ready(());
        };
        let readiness = ready!(service.poll_ready(cx));
        let Some(Sending { mut request, kind, share }) = this.sending.take() else {
            return Poll::Ready(());
        };
        if let Err(error) = readiness {
            let protocol = &this.parts.protocol;
            let sent = protocol.advice(Err(&error)).sent;
            // The inner service is broken for good, as tower has it.
            this.parts.service = None;
            this.plan.stop(StopReason::NotReady);
            this.retry.tell(RetryEvent::Stopped { reason: StopReason::NotReady });
            self.keep_failure(sent, Err(error));
            return Poll::Ready(());
        }
        let previous = this.plan.previous();
        let number = this.plan.count(kind);
        this.context.number = number;
        this.parts.protocol.begin_attempt(&mut request, this.context, previous);
        if let Some(share) = share {
            share.send();
        }
        let sent_at = this.plan.needs_start().then(Instant::now);
        let response = service.call(request);
        this.retry.tell(RetryEvent::AttemptSent { number, kind, shadow: false });
        let attempt = Attempt::new(number, kind, sent_at, response);
        if this.attempt.is_none() {
            this.attempt.set(Some(attempt));
        } else {
            // Boxed: see `beside`.
            this.beside.push(Box::pin(attempt));
        }
        if let Some(now) = sent_at {
            let retry = &*this.retry;
            let is_possible = this.parts.kept.is_some();
            let delay = |quantile: &_| retry.latencies().delay(quantile, now);
            let at = if is_possible { this.plan.backup_at(now, delay) } else { None };
            *this.next = at.map(|at| Next::backup(at, now));
        }
        if this.parts.kept.is_none() {
            this.parts.service = None;
        }
        Poll::Ready(())
    }
}

/// What is known of an attempt when it ends.
#[derive(Clone, Copy)]
struct Ended {
    number: u32,
    kind: AttemptKind,
    sent_at: Option<Instant>,
}

impl Ended {
    const fn of<F, W>(attempt: &Attempt<F, W>) -> Self {
        Self { number: attempt.number, kind: attempt.kind, sent_at: attempt.sent_at }
    }
}

/// Feeds the live quantile, where the policy waits by one.
fn learn_latency<O>(retry: &Retry<O>, plan: &Plan, sent_at: Option<Instant>, end: LatencyOf) {
    let Some(BackupDelay::Quantile(_)) = plan.policy().backup_delay() else { return };
    let Some(sent_at) = sent_at else { return };
    let now = Instant::now();
    let latency = now.saturating_duration_since(sent_at);
    match end {
        LatencyOf::Whole => retry.latencies().record(latency, now),
        LatencyOf::Cut => retry.latencies().record_cut(latency, now),
    }
}

/// What a time says about the latency of an attempt.
#[derive(Clone, Copy)]
enum LatencyOf {
    Whole,
    /// At least this long.
    Cut,
}

#[pinned_drop]
impl<S, R, P, C, O, Request> PinnedDrop for Race<S, R, P, C, O, Request>
where
    S: Service<R::Sent>,
    R: CloneRequest<Request>,
    P: Protocol<R::Sent, S::Response, S::Error>,
{
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        let first = this.attempt.as_ref().as_pin_ref().map(|attempt| attempt.sent_at);
        let beside = this.beside.iter().map(|attempt| attempt.sent_at);
        for sent_at in first.into_iter().chain(beside) {
            learn_latency(this.retry, this.plan, sent_at, LatencyOf::Cut);
        }
    }
}
