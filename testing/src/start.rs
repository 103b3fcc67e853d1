use std::task::Poll;

use tokio_test::task::{self, Spawn};
use tower::BoxError;
use tower_service::Service;

/// Makes a call on a service that is ready, to be polled by hand.
///
/// ```
/// use outrigger_testing::{Answer, scripted, start};
///
/// let (mut service, script) = scripted();
/// script.answer(Answer::OkAfter(1));
/// let mut call = start(&mut service, 1);
/// assert!(call.poll().is_pending());
/// assert!(call.is_woken());
/// assert!(call.poll().is_ready());
/// ```
///
/// # Panics
///
/// When the service is not ready.
pub fn start<S, Request>(service: &mut S, request: Request) -> Spawn<S::Future>
where
    S: Service<Request, Error = BoxError>,
{
    make_ready(service);
    task::spawn(service.call(request))
}

pub(crate) fn make_ready<S, Request>(service: &mut S)
where
    S: Service<Request, Error = BoxError>,
{
    let ready = poll_ready(service);
    assert!(
        matches!(ready, Poll::Ready(Ok(()))),
        "law broken: the inner service is ready, but the layer is {ready:?}"
    );
}

pub(crate) fn poll_ready<S, Request>(service: &mut S) -> Poll<Result<(), BoxError>>
where
    S: Service<Request, Error = BoxError>,
{
    task::spawn(()).enter(|cx, _| service.poll_ready(cx))
}
