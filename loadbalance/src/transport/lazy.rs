use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::future::{FutureExt, Shared};
use tokio::time::Instant;
use tower_service::Service;

/// Makes the connection of an endpoint.
pub trait Connect: Send + Sync + 'static {
    /// What is connected: a service that all clones share.
    type Service: Clone + Send + Sync + 'static;

    /// Makes a connection.
    fn connect(
        &self,
    ) -> impl Future<Output = Result<Self::Service, Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// Whether a connection that was made is known to be gone.
    fn is_closed(&self, service: &Self::Service) -> bool;
}

/// An endpoint service that connects when it is first needed, shares the connection with its
/// clones, and connects again when it is gone.
///
/// It is ready when it is connected, and its readiness fails when it cannot connect: so a balancer
/// knows before it has given the request away, and goes on to another endpoint. After a failure it
/// refuses at once for a while, 100 ms at first and up to 5 s, instead of trying for each call.
///
/// ```
/// use std::{error::Error, future::ready};
///
/// use outrigger_loadbalance::{Connect, Lazy};
///
/// struct Local;
///
/// impl Connect for Local {
///     type Service = String;
///
///     fn connect(
///         &self,
///     ) -> impl Future<Output = Result<String, Box<dyn Error + Send + Sync>>> + Send + 'static {
///         ready(Ok("connected".to_owned()))
///     }
///
///     fn is_closed(&self, _service: &String) -> bool {
///         false
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // Eagerly, as a warm-up:
/// assert!(Lazy::new("local", Local).warm_up().await.is_ok());
/// # }
/// ```
pub struct Lazy<C: Connect> {
    shared: Arc<LazyShared<C>>,
    /// This clone's connection, once it is ready.
    ready: Option<C::Service>,
    waiting: Option<Connecting<C>>,
}

struct LazyShared<C: Connect> {
    target: Arc<str>,
    connect: C,
    connected: ArcSwapOption<C::Service>,
    attempt: Mutex<Attempt<C>>,
}

struct Attempt<C: Connect> {
    running: Option<Connecting<C>>,
    number: u64,
    /// Since when it refuses, for how long, and why.
    failed: Option<(Instant, Duration, ConnectFailed)>,
}

impl<C: Connect> Attempt<C> {
    /// The attempt that is running, or why there is to be none for a while.
    fn known(&self) -> Option<Result<Connecting<C>, ConnectFailed>> {
        if let Some(running) = &self.running {
            return Some(Ok(running.clone()));
        }
        let (since, pause, failed) = self.failed.as_ref()?;
        (since.elapsed() < *pause).then(|| Err(failed.clone()))
    }
}

/// An attempt by its number: who sees it end need not be the last one.
struct Connecting<C: Connect> {
    number: u64,
    future: SharedFuture<C>,
}

impl<C: Connect> Clone for Connecting<C> {
    fn clone(&self) -> Self {
        Self { number: self.number, future: self.future.clone() }
    }
}

type SharedFuture<C> =
    Shared<Pin<Box<dyn Future<Output = Result<<C as Connect>::Service, ConnectFailed>> + Send>>>;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl<C: Connect> Lazy<C> {
    /// Connects to `target`, a name for error messages, by `connect`, when it is needed.
    #[must_use]
    pub fn new(target: impl Into<Arc<str>>, connect: C) -> Self {
        let attempt = Mutex::new(Attempt { running: None, number: 0, failed: None });
        let connected = ArcSwapOption::empty();
        let shared = LazyShared { target: target.into(), connect, connected, attempt };
        Self { shared: Arc::new(shared), ready: None, waiting: None }
    }

    /// Connects now, for all clones.
    ///
    /// # Errors
    ///
    /// When it cannot connect.
    pub async fn warm_up(&self) -> Result<(), ConnectFailed> {
        let mut clone = self.clone();
        std::future::poll_fn(|cx| clone.poll_connected(cx)).await
    }

    fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectFailed>> {
        if self.ready.as_ref().is_some_and(|ready| self.shared.connect.is_closed(ready)) {
            self.ready = None;
        }
        if self.ready.is_some() {
            return Poll::Ready(Ok(()));
        }
        if self.waiting.is_none() {
            if let Some(connected) = self.shared.connected() {
                self.ready = Some(connected);
                return Poll::Ready(Ok(()));
            }
            self.waiting = Some(self.shared.attempt()?);
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(Ok(())) };
        let result = ready!(waiting.future.poll_unpin(cx));
        if let Some(over) = self.waiting.take() {
            self.shared.is_over(over.number, &result);
        }
        self.ready = Some(result?);
        Poll::Ready(Ok(()))
    }
}

impl<C: Connect> LazyShared<C> {
    fn connected(&self) -> Option<C::Service> {
        let connected = self.connected.load();
        let service = connected.as_deref()?;
        (!self.connect.is_closed(service)).then(|| service.clone())
    }

    /// The attempt that is running, or a new one, or why there is none yet.
    fn attempt(&self) -> Result<Connecting<C>, ConnectFailed> {
        if let Some(known) = self.lock().known() {
            return known;
        }
        // Made with no lock held, since `connect` is not ours. It does nothing before it is polled.
        let target = Arc::clone(&self.target);
        let connecting = self.connect.connect();
        let connecting = async move {
            connecting.await.map_err(|cause| ConnectFailed { target, cause: cause.into() })
        };
        let future: SharedFuture<C> = connecting.boxed().shared();
        let mut attempt = self.lock();
        if let Some(known) = attempt.known() {
            return known;
        }
        attempt.number += 1;
        let fresh = Connecting { number: attempt.number, future };
        attempt.running = Some(fresh.clone());
        Ok(fresh)
    }

    fn is_over(&self, number: u64, result: &Result<C::Service, ConnectFailed>) {
        let connected = result.as_ref().ok().map(|service| Arc::new(service.clone()));
        let mut attempt = self.lock();
        if attempt.running.as_ref().is_none_or(|running| running.number != number) {
            return;
        }
        attempt.running = None;
        match result {
            Ok(_) => attempt.failed = None,
            Err(failed) => {
                let pause = attempt.failed.as_ref().map_or(FIRST_PAUSE, |(_, pause, _)| {
                    pause.saturating_mul(2).min(LONGEST_PAUSE)
                });
                attempt.failed = Some((Instant::now(), pause, failed.clone()));
            }
        }
        let old = self.connected.swap(connected);
        drop(attempt);
        drop(old);
    }

    fn lock(&self) -> MutexGuard<'_, Attempt<C>> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C, Request> Service<Request> for Lazy<C>
where
    C: Connect,
    C::Service: Service<Request>,
    <C::Service as Service<Request>>::Error: From<ConnectFailed>,
{
    type Response = <C::Service as Service<Request>>::Response;
    type Error = <C::Service as Service<Request>>::Error;
    type Future = <C::Service as Service<Request>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_connected(cx))?;
        let Some(service) = &mut self.ready else { return Poll::Ready(Ok(())) };
        let polled = ready!(service.poll_ready(cx));
        if polled.is_err() {
            self.ready = None;
            self.shared.connected.store(None);
        }
        Poll::Ready(polled)
    }

    /// # Panics
    ///
    /// When it was not ready.
    fn call(&mut self, request: Request) -> Self::Future {
        match &mut self.ready {
            Some(service) => service.call(request),
            None => panic!("called before it was ready"),
        }
    }
}

/// A clone shares the connection, but not the readiness.
impl<C: Connect> Clone for Lazy<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), ready: None, waiting: None }
    }
}

impl<C: Connect> fmt::Debug for Lazy<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lazy")
            .field("target", &self.shared.target)
            .field("is_connected", &self.shared.connected.load().is_some())
            .finish_non_exhaustive()
    }
}

/// An endpoint could not be connected, so nothing was sent.
#[derive(Clone, Debug)]
pub struct ConnectFailed {
    target: Arc<str>,
    cause: Arc<dyn Error + Send + Sync>,
}

impl ConnectFailed {
    /// What could not be connected.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl fmt::Display for ConnectFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}: {}", self.target, self.cause)
    }
}

impl Error for ConnectFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}
