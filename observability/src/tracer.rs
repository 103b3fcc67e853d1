use std::sync::Arc;

use outrigger_core::MethodRef;

use crate::{CallEnd, Side};

/// Is told when a call starts and when it ends: for users with a system of their own.
///
/// Kitex's `stats.Tracer`. Several may be installed: they start in the order in which they were
/// added and finish in the reverse order. A panic in one is contained and spoils neither the call
/// nor the others; what panicked at its start is not told the end.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use outrigger_observability::{CallEnd, CallOutcome, CallStart, ObserveLayer, Tracer};
/// use tower::{BoxError, Layer, ServiceExt, service_fn};
///
/// #[derive(Clone, Default)]
/// struct Log(Arc<Mutex<Vec<CallOutcome>>>);
///
/// impl Tracer for Log {
///     type State = ();
///     fn start(&self, _call: &CallStart<'_>) {}
///     fn finish(&self, (): (), end: &CallEnd) {
///         self.0.lock().unwrap().push(end.outcome);
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let log = Log::default();
/// let layer = ObserveLayer::client().tracer(log.clone());
/// let service = layer.layer(service_fn(|n: u32| async move { Ok::<_, BoxError>(n + 1) }));
/// assert_eq!(service.oneshot(1).await?, 2);
/// assert_eq!(*log.0.lock().unwrap(), [CallOutcome::Success]);
/// # Ok(())
/// # }
/// ```
pub trait Tracer {
    /// What a call carries from its start to its end.
    type State;

    /// A call starts.
    fn start(&self, call: &CallStart<'_>) -> Self::State;

    /// The call is over, also when its future or body was dropped.
    fn finish(&self, state: Self::State, end: &CallEnd);
}

/// What is known of a call when it starts.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CallStart<'a> {
    /// Which side looks on.
    pub side: Side,
    /// The value of `rpc.system.name`.
    pub system: Option<&'a str>,
    /// The method, if the request names one.
    pub method: Option<MethodRef<'a>>,
    /// The logical target.
    pub target: Option<&'a str>,
    /// The endpoint, where a layer observes one.
    pub peer: Option<&'a str>,
    /// The number of the attempt, from 0.
    pub attempt: u32,
}

impl Tracer for () {
    type State = ();

    fn start(&self, _call: &CallStart<'_>) {}

    fn finish(&self, (): (), _end: &CallEnd) {}
}

impl<A: Tracer, B: Tracer> Tracer for (A, B) {
    type State = (A::State, B::State);

    fn start(&self, call: &CallStart<'_>) -> Self::State {
        (self.0.start(call), self.1.start(call))
    }

    fn finish(&self, (first, second): Self::State, end: &CallEnd) {
        self.1.finish(second, end);
        self.0.finish(first, end);
    }
}

impl<T: Tracer + ?Sized> Tracer for Arc<T> {
    type State = T::State;

    fn start(&self, call: &CallStart<'_>) -> Self::State {
        (**self).start(call)
    }

    fn finish(&self, state: Self::State, end: &CallEnd) {
        (**self).finish(state, end);
    }
}
