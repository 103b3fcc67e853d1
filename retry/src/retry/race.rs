//! The attempts of one call, from the first to the answer.

mod more;

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use outrigger_core::{Classify, Enforcement, Moment, Observe, Outcome, Rejection, Timer};
use pin_project::{pin_project, pinned_drop};
use tokio::time::Instant;
use tower_service::Service;

use self::more::{More, PlannedRetry, Sending};
use super::{
    AttemptKind, CurrentRetry, RetryEvent, StopReason,
    attempt::{Attempt, Ended},
    engine::{Plan, Verdict, Wait, needs_start},
    learn::{LatencyOf, learn_latency},
    protocol::{Advice, Protocol},
    spare::Further,
};
use crate::{Chain, CloneRequest, RetryShare, Sent};

type AttemptOf<S, R, P, Request> = Attempt<
    <S as Service<<R as CloneRequest<Request>>::Sent>>::Future,
    <P as Protocol<
        <R as CloneRequest<Request>>::Sent,
        <S as Service<<R as CloneRequest<Request>>::Sent>>::Response,
        <S as Service<<R as CloneRequest<Request>>::Sent>>::Error,
    >>::Settle,
>;

type OutputOf<S, R, P, Request> = Result<
    <P as Protocol<
        <R as CloneRequest<Request>>::Sent,
        <S as Service<<R as CloneRequest<Request>>::Sent>>::Response,
        <S as Service<<R as CloneRequest<Request>>::Sent>>::Error,
    >>::Answer,
    <S as Service<<R as CloneRequest<Request>>::Sent>>::Error,
>;

type MoreOf<S, R, P, Request> = More<
    AttemptOf<S, R, P, Request>,
    <R as CloneRequest<Request>>::Sent,
    OutputOf<S, R, P, Request>,
>;

/// Kept small: a call that succeeds at once pays for moving it about.
#[pin_project(PinnedDrop)]
pub(super) struct Race<S, R, P, C, O, Request>
where
    S: Service<R::Sent>,
    R: CloneRequest<Request>,
    P: Protocol<R::Sent, S::Response, S::Error>,
{
    retry: CurrentRetry<O>,
    plan: Plan,
    parts: Parts<S, R, P, C, R::Kept>,
    /// The first attempt, and each that is sent when none is on its way any more.
    #[pin]
    attempt: Option<AttemptOf<S, R, P, Request>>,
    /// When a backup request is due.
    backup_at: Option<Instant>,
    /// Runs until the next attempt is due.
    timer: Timer,
    // Boxed, since most calls are over with the first attempt.
    more: Option<Box<MoreOf<S, R, P, Request>>>,
}

pub(super) struct Parts<S, R, P, C, Kept> {
    /// What further attempts are made with.
    pub(super) further: Further<S>,
    pub(super) kept: Option<Kept>,
    pub(super) replay: R,
    pub(super) protocol: P,
    pub(super) classifier: C,
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
        retry: CurrentRetry<O>,
        mut plan: Plan,
        parts: Parts<S, R, P, C, R::Kept>,
        response: S::Future,
    ) -> Self {
        let policy = retry.policy();
        let now = needs_start(policy).then(Moment::now);
        let mut backup_at = None;
        if let Some(now) = now {
            plan.begin(now);
            // Where no request could be sent, no timer need run.
            if parts.kept.is_some() || policy.enforcement() == Enforcement::Shadow {
                backup_at = next_backup(&retry, &plan, now);
            }
        }
        let number = plan.count(AttemptKind::First);
        let sent = RetryEvent::AttemptSent { number, kind: AttemptKind::First, shadow: false };
        retry.retry().tell(sent);
        let attempt = Some(Attempt::new(number, AttemptKind::First, now, response));
        Self { retry, plan, parts, attempt, backup_at, timer: Timer::new(), more: None }
    }
}

fn next_backup<O>(retry: &CurrentRetry<O>, plan: &Plan, now: Instant) -> Option<Instant> {
    let delay = |quantile: &_| retry.retry().latencies().delay(quantile, now);
    plan.backup_at(retry.policy(), now, delay)
}

impl<S, R, P, C, O, Request> Race<S, R, P, C, O, Request>
where
    S: Service<R::Sent> + Clone,
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
            if self.more.as_ref().is_some_and(|more| more.sending.is_some()) {
                ready!(self.as_mut().poll_send(cx));
                continue;
            }
            if !self.is_waiting() && !self.is_running() {
                return Poll::Ready(self.take_failure());
            }
            ready!(self.as_mut().poll_due(cx));
            self.as_mut().begin_sending();
        }
    }

    fn is_running(&self) -> bool {
        self.attempt.is_some() || self.more.as_ref().is_some_and(|more| !more.beside.is_empty())
    }

    /// Whether a further attempt is to come.
    fn is_waiting(&self) -> bool {
        self.backup_at.is_some() || self.more.as_ref().is_some_and(|more| more.retry.is_some())
    }

    fn take_failure(self: Pin<&mut Self>) -> OutputOf<S, R, P, Request> {
        if self.retry.policy().retries() > 0 {
            Chain::give_up();
        }
        let failure = self.project().more.as_mut().and_then(|more| more.failure.take());
        failure.expect("a call without attempts has failed").1
    }

    fn poll_attempts(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Option<OutputOf<S, R, P, Request>> {
        let mut this = self.as_mut().project();
        let unary = this.retry.policy().is_unary();
        if let Some(attempt) = this.attempt.as_mut().as_pin_mut() {
            let protocol = &this.parts.protocol;
            let ended = Ended::of(&attempt);
            let polled =
                attempt.poll_answer::<R::Sent, P, S::Response, S::Error>(protocol, unary, cx);
            if let Poll::Ready(result) = polled {
                this.attempt.set(None);
                if let Some(answer) = self.as_mut().ended(ended, result) {
                    return Some(answer);
                }
            }
        }
        let mut position = 0;
        loop {
            let this = self.as_mut().project();
            let more = this.more.as_mut()?;
            let attempt = more.beside.get_mut(position)?;
            let protocol = &this.parts.protocol;
            let ended = Ended::of(attempt);
            let polled = attempt
                .as_mut()
                .poll_answer::<R::Sent, P, S::Response, S::Error>(protocol, unary, cx);
            if let Poll::Ready(result) = polled {
                drop(more.beside.remove(position));
                if let Some(answer) = self.as_mut().ended(ended, result) {
                    return Some(answer);
                }
            } else {
                position += 1;
            }
        }
    }

    /// An attempt has ended: gives the answer, if it is one.
    #[inline]
    fn ended(
        mut self: Pin<&mut Self>,
        ended: Ended,
        result: OutputOf<S, R, P, Request>,
    ) -> Option<OutputOf<S, R, P, Request>> {
        match self.as_mut().judge(ended, result.as_ref()) {
            None => Some(result),
            Some(sent) => {
                self.keep_failure(sent, result);
                None
            }
        }
    }

    /// `None` where the result is the answer. Else plans what comes next, and says whether the
    /// attempt was sent.
    fn judge(
        mut self: Pin<&mut Self>,
        ended: Ended,
        result: Result<&P::Answer, &S::Error>,
    ) -> Option<Sent> {
        let this = self.as_mut().project();
        let protocol = &this.parts.protocol;
        let retry = this.retry.retry();
        let outcome = protocol.classify(&this.parts.classifier, result);
        retry.tell(RetryEvent::AttemptEnded { number: ended.number, outcome });
        // What fails fast says nothing about how long an answer takes.
        match outcome {
            Outcome::Success => learn_latency(this.retry, ended.sent_at, LatencyOf::Whole),
            Outcome::Timeout => learn_latency(this.retry, ended.sent_at, LatencyOf::Cut),
            Outcome::Failure | Outcome::Ignored => {}
        }
        let advice = protocol.advice(result);
        match this.plan.judge(this.retry.policy(), outcome, &advice) {
            Verdict::Answer => {
                if outcome == Outcome::Success {
                    retry.budget().record_success();
                }
                self.tell_who_won(ended);
                return None;
            }
            Verdict::Unprocessed => self.as_mut().plan_next(None, AttemptKind::Transparent, None),
            Verdict::Failed => {
                retry.budget().record_failure();
                self.as_mut().plan_retry(&advice);
            }
            Verdict::Final(reason) => self.as_mut().stop(reason),
        }
        Some(advice.sent)
    }

    /// The last failure is the answer if no other comes; but one that reached the peer says more
    /// than one that did not.
    fn keep_failure(self: Pin<&mut Self>, sent: Sent, result: OutputOf<S, R, P, Request>) {
        let more = self.project().more.get_or_insert_default();
        if sent != Sent::No || !matches!(more.failure, Some((Sent::Maybe, _))) {
            more.failure = Some((sent, result));
        }
    }

    /// `winner` gave the answer: what is still on its way is cancelled with this future.
    fn tell_who_won(self: Pin<&mut Self>, winner: Ended) {
        let this = self.project();
        let retry = this.retry.retry();
        if winner.kind == AttemptKind::Backup {
            retry.tell(RetryEvent::BackupWon { number: winner.number });
        }
        let first = this.attempt.as_ref().as_pin_ref().map(|attempt| Ended::of(&attempt));
        let beside = this.more.iter().flat_map(|more| &more.beside);
        for loser in first.into_iter().chain(beside.map(|attempt| Ended::of(attempt))) {
            if loser.kind == AttemptKind::Backup {
                retry.tell(RetryEvent::BackupLost { number: loser.number });
            }
        }
    }

    /// An attempt failed: plans the next, if there is to be one.
    fn plan_retry(mut self: Pin<&mut Self>, advice: &Advice) {
        let this = self.as_mut().project();
        let more = this.more.get_or_insert_default();
        if more.sending.is_some() || more.retry.is_some() {
            // Another is on its way already.
            return;
        }
        let policy = this.retry.policy();
        let retry = this.retry.retry();
        let waits =
            more.waits.get_or_insert_with(|| policy.backoff().waits(retry.seeds().next_seed()));
        let planned = this.plan.wait_after_failure(policy, advice.pushback, waits, Moment::now);
        let wait = match planned {
            Ok(wait) => wait,
            Err(reason) => return self.stop(reason),
        };
        let Some(share) = retry.budget().try_acquire() else {
            retry.tell(RetryEvent::BudgetExhausted { kind: AttemptKind::Retry });
            return self.stop(None);
        };
        let at = match wait {
            Wait::AtOnce => None,
            Wait::For(wait) => {
                let number = this.plan.next_number();
                retry.tell(RetryEvent::RetryScheduled { number, wait });
                // A wait beyond all time is one that a policy cannot have.
                Moment::now().checked_add(wait)
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
        let this = self.project();
        *this.backup_at = None;
        if this.retry.policy().enforcement() == Enforcement::Shadow {
            // Nobody waits for what is not sent, and its share goes back.
            let number = this.plan.count(kind);
            this.retry.retry().tell(RetryEvent::AttemptSent { number, kind, shadow: true });
        } else {
            let planned = PlannedRetry { at, kind, share };
            this.more.get_or_insert_default().retry = Some(planned);
        }
    }

    /// No further attempt comes; those on their way go on.
    fn stop(self: Pin<&mut Self>, reason: Option<StopReason>) {
        let this = self.project();
        *this.backup_at = None;
        let Some(reason) = reason else { return };
        if let Some(more) = this.more {
            // One that waits for the inner service to be ready is not sent any more.
            more.sending = None;
            more.retry = None;
        }
        this.plan.stop(reason);
        this.retry.retry().tell(RetryEvent::Stopped { reason });
    }

    /// Ready when the next attempt is due; pending for good if none is to come.
    fn poll_due(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let planned = this.more.as_ref().and_then(|more| more.retry.as_ref());
        let at = match (planned.map(|planned| planned.at), *this.backup_at) {
            (Some(None), _) => {
                this.timer.disarm();
                return Poll::Ready(());
            }
            (Some(Some(at)), _) | (None, Some(at)) => at,
            (None, None) => {
                // What was planned is no more: nobody is woken for it.
                this.timer.disarm();
                return Poll::Pending;
            }
        };
        this.timer.arm(at);
        ready!(this.timer.poll(cx));
        this.timer.disarm();
        Poll::Ready(())
    }

    /// The next attempt is due: takes its share and its request.
    fn begin_sending(self: Pin<&mut Self>) {
        let this = self.project();
        let retry = this.retry.retry();
        let more = this.more.get_or_insert_default();
        let (kind, share) = if let Some(planned) = more.retry.take() {
            (planned.kind, planned.share)
        } else {
            let kind = AttemptKind::Backup;
            *this.backup_at = None;
            let Some(share) = retry.budget().try_acquire() else {
                return retry.tell(RetryEvent::BudgetExhausted { kind });
            };
            (kind, Some(share))
        };
        if this.retry.policy().enforcement() == Enforcement::Shadow {
            // The share goes back: what is not sent costs nothing.
            let number = this.plan.count(kind);
            return retry.tell(RetryEvent::AttemptSent { number, kind, shadow: true });
        }
        let is_last = this.plan.next_is_last(kind, this.retry.policy());
        let Parts { kept, replay, .. } = this.parts;
        if let Some(request) = replay.again(kept, is_last) {
            more.sending = Some(Sending { request, kind, share });
        } else {
            this.plan.stop(StopReason::ReplayImpossible);
            retry.tell(RetryEvent::ReplayImpossible);
        }
    }

    /// Ready when the further attempt is on its way, or has failed to be.
    fn poll_send(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.as_mut().project();
        let more = this.more.get_or_insert_default();
        let Some(service) = this.parts.further.service() else {
            more.sending = None;
            return Poll::Ready(());
        };
        let readiness = ready!(service.poll_ready(cx));
        let Some(Sending { mut request, kind, share }) = more.sending.take() else {
            return Poll::Ready(());
        };
        let retry = this.retry.retry();
        if let Err(error) = readiness {
            let sent = this.parts.protocol.advice(Err(&error)).sent;
            // The inner service is broken for good, as tower has it.
            this.parts.further = Further::None;
            this.plan.stop(StopReason::NotReady);
            retry.tell(RetryEvent::Stopped { reason: StopReason::NotReady });
            self.keep_failure(sent, Err(error));
            return Poll::Ready(());
        }
        let previous = this.plan.previous();
        let number = this.plan.count(kind);
        this.plan.context.number = number;
        this.parts.protocol.begin_attempt(&mut request, &this.plan.context, previous);
        if let Some(share) = share {
            share.send();
        }
        let now = needs_start(this.retry.policy()).then(Moment::now);
        let response = service.call(request);
        retry.tell(RetryEvent::AttemptSent { number, kind, shadow: false });
        let attempt = Attempt::new(number, kind, now, response);
        if this.attempt.is_none() {
            this.attempt.set(Some(attempt));
        } else {
            // Boxed: see `more`.
            more.beside.push(Box::pin(attempt));
        }
        if this.parts.kept.is_none() {
            this.parts.further = Further::None;
        } else if let Some(now) = now {
            *this.backup_at = next_backup(this.retry, this.plan, now);
        }
        Poll::Ready(())
    }
}

/// What is still on its way is cut short.
#[pinned_drop]
impl<S, R, P, C, O, Request> PinnedDrop for Race<S, R, P, C, O, Request>
where
    S: Service<R::Sent>,
    R: CloneRequest<Request>,
    P: Protocol<R::Sent, S::Response, S::Error>,
{
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if let Some(attempt) = this.attempt.as_ref().as_pin_ref() {
            learn_latency(this.retry, attempt.sent_at, LatencyOf::Cut);
        }
        for attempt in this.more.iter().flat_map(|more| &more.beside) {
            learn_latency(this.retry, attempt.sent_at, LatencyOf::Cut);
        }
    }
}
