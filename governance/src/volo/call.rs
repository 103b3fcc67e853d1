//! Calls on their way through a stack.

use outrigger_core::{AttemptContext, CarryContext, MethodRef, NameMethod, NoContext, OnResponse};
use outrigger_retry::{ByClone, CarryDeadline, Chain, InContext, Now, Plain, ReadTimeout};
use tokio::time::Instant;
use volo::{FastStr, context::Context, net::Address};
use volo_thrift::context::{ClientContext, ClientCxInner, Config, ServerContext};

use super::outcome::{Handled, Judge, Thrift};
use crate::{Leave, Wire};

/// What is known of a call before its first attempt, for those after it.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) caller: FastStr,
    pub(super) callee: FastStr,
    pub(super) method: FastStr,
    pub(super) address: Option<Address>,
    pub(super) config: Config,
    pub(super) inner: ClientCxInner,
}

impl Before {
    pub(super) fn call<Req>(&self, request: Req, context: Option<AttemptContext>) -> Call<Req> {
        let (service, method) = (self.callee.clone(), self.method.clone());
        Call { service, method, awaited_until: None, request, context }
    }

    pub(super) fn new(cx: &ClientContext) -> Self {
        let info = cx.rpc_info();
        Self {
            caller: info.caller().service_name(),
            callee: info.callee().service_name(),
            method: info.method().clone(),
            address: info.callee().address(),
            config: *info.config(),
            inner: cx.inner.clone(),
        }
    }
}

/// A call on its way. Volo's context stays outside, for the attempt that has it.
#[derive(Clone, Debug)]
pub(super) struct Call<Req> {
    pub(super) service: FastStr,
    pub(super) method: FastStr,
    /// Until when its caller waits, if it said so to this server.
    pub(super) awaited_until: Option<Instant>,
    pub(super) request: Req,
    pub(super) context: Option<AttemptContext>,
}

impl<Req> Call<Req> {
    /// A call that a server handles.
    pub(super) fn received(cx: &ServerContext, request: Req) -> Self {
        let info = cx.rpc_info();
        let timeout = info.config().rpc_timeout();
        let named = Some(info.callee().service_name()).filter(|name| !name.is_empty());
        Self {
            service: named.or_else(|| cx.idl_service_name.clone()).unwrap_or_default(),
            method: info.method().clone(),
            awaited_until: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            request,
            context: None,
        }
    }

    /// What the calls that its handler makes are to know of it.
    pub(super) fn chain(&self, is_retry: bool) -> Chain {
        Chain::default().with_retry(is_retry).with_deadline(self.deadline())
    }

    /// The deadline of the policies, else that of the caller.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let of_policies = self.context.as_ref().and_then(|context| context.deadline);
        of_policies.or(self.awaited_until)
    }
}

/// The context stands beside the request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InCall;

impl<Req> CarryContext<Call<Req>> for InCall {
    fn context<'a>(&self, call: &'a Call<Req>) -> Option<&'a AttemptContext> {
        call.context.as_ref()
    }

    fn set_context(&self, call: &mut Call<Req>, context: AttemptContext) {
        call.context = Some(context);
    }
}

/// Names a call by its callee and method.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByCallee;

impl<Req> NameMethod<Call<Req>> for ByCallee {
    fn name_method<'a>(&self, call: &'a Call<Req>) -> Option<MethodRef<'a>> {
        Some(MethodRef { service: &call.service, method: &call.method })
    }
}

/// The deadline that came with a call, as the RPC time-out that Volo read of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RpcTimeout;

impl<Req> CarryDeadline<Call<Req>> for RpcTimeout {
    fn deadline(&self, call: &Call<Req>, _now: &mut Now) -> Option<Instant> {
        call.awaited_until
    }

    fn set_deadline(&self, call: &mut Call<Req>, deadline: Instant, now: &mut Now) {
        InContext(InCall).set_deadline(call, deadline, now);
    }
}

/// Volo's client gives an error at its RPC time-out.
impl<Response> ReadTimeout<Response> for RpcTimeout {
    fn is_timeout(&self, _response: &Response) -> bool {
        false
    }
}

macro_rules! common {
    () => {
        type Namer = ByCallee;
        type Completion = OnResponse;
        type Context = InCall;
        type Envelope = crate::WithRequest;
        type Replay = ByClone;
        type Inside<S> = Leave<S>;

        fn namer(&self) -> &ByCallee {
            &ByCallee
        }

        fn completion(&self) -> OnResponse {
            OnResponse
        }

        fn context(&self) -> InCall {
            InCall
        }

        fn replay(&self) -> ByClone {
            ByClone
        }

        fn inside<S>(&self, service: S) -> Leave<S> {
            Leave(service)
        }
    };
}

/// Thrift calls of a client, judged by `C`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClientWire<C>(pub(super) C);

impl<C: Clone> Wire for ClientWire<C> {
    common!();

    type Classifier = Judge<C>;
    type Overload = Judge<C>;
    type Deadline = InContext<InCall>;
    type Protocol = Thrift;

    fn classifier(&self) -> Judge<C> {
        Judge(self.0.clone())
    }

    fn overload(&self) -> Judge<C> {
        Judge(self.0.clone())
    }

    fn deadline(&self) -> InContext<InCall> {
        InContext(InCall)
    }

    fn protocol(&self) -> Thrift {
        Thrift
    }
}

/// Thrift calls that a server handles. Nothing of them is judged or sent again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerWire;

impl Wire for ServerWire {
    common!();

    type Classifier = ();
    type Overload = Handled;
    type Deadline = RpcTimeout;
    type Protocol = Plain<NoContext>;

    fn classifier(&self) {}

    fn overload(&self) -> Handled {
        Handled
    }

    fn deadline(&self) -> RpcTimeout {
        RpcTimeout
    }

    fn protocol(&self) -> Plain<NoContext> {
        Plain::default()
    }
}
