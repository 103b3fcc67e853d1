//! One attempt of a Volo client's call, and the context that it has meanwhile.

use std::{
    cell::RefCell,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    task::{Context as TaskContext, Poll},
};

use metainfo::{Backward, Forward, METAINFO, MetaInfo};
use tokio::time::Instant;
use tower_service::Service as TowerService;
use volo::{
    FastStr, Service,
    context::{Context, Endpoint, Role, RpcInfo},
};
use volo_thrift::{ClientError, context::ClientContext};

use super::{
    call::{Before, Call},
    error::ThriftError,
};

/// Kitex's key for the mark of a retry, passed on by every hop.
const RETRY_MARK: FastStr = FastStr::from_static_str("RetryReq");

/// What an attempt gives.
#[derive(Debug)]
pub(super) struct Answer<R> {
    pub(super) response: R,
    /// The attempt's context, unless it had the caller's.
    pub(super) own: Option<Box<ClientContext>>,
}

/// Whether the call that is being served is itself a retry.
pub(super) fn serves_retry() -> bool {
    METAINFO.try_with(|info| info.borrow().get_persistent(&RETRY_MARK).is_some()).unwrap_or(false)
}

/// Holds the caller's context while no attempt has it.
///
/// All attempts of a call are polled by one task, so the lock is always free.
#[derive(Debug)]
pub(super) struct Callers<'a, Cx>(Mutex<Option<&'a mut Cx>>);

impl<'a, Cx> Callers<'a, Cx> {
    pub(super) const fn new(cx: &'a mut Cx) -> Self {
        Self(Mutex::new(Some(cx)))
    }

    fn exchange(&self, cx: Option<&'a mut Cx>) -> Option<&'a mut Cx> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), cx)
    }

    /// `None` in it means that another attempt has the context.
    pub(super) fn lend(&self) -> Lent<'_, 'a, Cx> {
        Lent { of: self, cx: self.exchange(None) }
    }
}

/// The caller's context, until it is dropped.
pub(super) struct Lent<'l, 'a, Cx> {
    of: &'l Callers<'a, Cx>,
    pub(super) cx: Option<&'a mut Cx>,
}

impl<Cx> Drop for Lent<'_, '_, Cx> {
    fn drop(&mut self) {
        if let Some(cx) = self.cx.take() {
            self.of.exchange(Some(cx));
        }
    }
}

/// The inside of a stack: a closure as a service that is always ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Innermost<F>(pub(super) F);

impl<F, Request, Fut, Response, Error> TowerService<Request> for Innermost<F>
where
    F: FnMut(Request) -> Fut,
    Fut: Future<Output = Result<Response, Error>>,
{
    type Response = Response;
    type Error = Error;
    type Future = Fut;

    fn poll_ready(&mut self, _cx: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Fut {
        (self.0)(request)
    }
}

/// Calls `inner` once.
pub(super) async fn attempt<S, Req>(
    inner: &S,
    before: &Before,
    callers: &Callers<'_, ClientContext>,
    call: Call<Req>,
) -> Result<Answer<S::Response>, ThriftError<ClientError>>
where
    S: Service<ClientContext, Req, Error = ClientError>,
{
    let Call { request, context, .. } = call;
    let (number, deadline) =
        context.map_or((0, None), |context| (context.number, context.deadline));
    let mut lent = callers.lend();
    let mut own = None;
    let cx = match &mut lent.cx {
        Some(cx) => &mut **cx,
        None => own.insert(Box::new(before.context())),
    };
    if number > 0 {
        before.begin_again(cx);
    }
    if let Some(deadline) = deadline {
        let ours = deadline.saturating_duration_since(Instant::now());
        let config = cx.rpc_info_mut().config_mut();
        config.set_rpc_timeout(Some(config.rpc_timeout().map_or(ours, |theirs| theirs.min(ours))));
    }
    let calling = inner.call(cx, request);
    let result = if number > 0 { marked(number, calling).await } else { calling.await };
    result.map(|response| Answer { response, own }).map_err(ThriftError::Failed)
}

/// Lets `attempt` see what travels beside the call, and the mark of a retry.
async fn marked<F: Future>(number: u32, attempt: F) -> F::Output {
    let derived = METAINFO.try_with(|outer| {
        let (outers, mut derived) = outer.take().derive();
        outer.replace(outers);
        derived.set_persistent(RETRY_MARK, number.to_string());
        derived
    });
    let Ok(derived) = derived else { return attempt.await };
    let scope = async {
        let output = attempt.await;
        (output, METAINFO.with(RefCell::take))
    };
    let (output, derived) = METAINFO.scope(RefCell::new(derived), scope).await;
    METAINFO.with(|outer| take_backward(&mut outer.borrow_mut(), &derived));
    output
}

/// What the server sent back beside its answer is the caller's to read.
fn take_backward(outer: &mut MetaInfo, derived: &MetaInfo) {
    for (key, value) in derived.get_all_backward_downstreams().into_iter().flatten() {
        outer.set_backward_downstream(key.clone(), value.clone());
    }
}

impl Before {
    /// A context like the caller's, for an attempt beside the one that has it.
    fn context(&self) -> ClientContext {
        let endpoint = |name: &FastStr| Endpoint::new(name.clone());
        let info = RpcInfo::new(
            Role::Client,
            self.method.clone(),
            endpoint(&self.caller),
            endpoint(&self.callee),
            self.config,
        );
        ClientContext::new(self.inner.seq_id, info, self.inner.message_type)
    }

    /// Makes a context as it was before the first attempt.
    fn begin_again(&self, cx: &mut ClientContext) {
        cx.inner.clone_from(&self.inner);
        cx.seq_id = next_sequence();
        let info = cx.rpc_info_mut();
        info.callee_mut().address.clone_from(&self.address);
        info.set_config(self.config);
    }
}

/// Clients of Volo count from 0 upwards. An answer to an attempt that was given up must not be taken
/// for that of another one.
fn next_sequence() -> i32 {
    static NEXT: AtomicI32 = AtomicI32::new(-1);
    NEXT.fetch_sub(1, Ordering::Relaxed)
}
