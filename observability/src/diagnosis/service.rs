use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body::Body;
use outrigger_core::InvalidPolicy;
use tower_service::Service;

use super::{
    body::DiagnosisBody,
    control::{Order, Token},
    future::DiagnosisFuture,
    handle::Diagnosis,
    stream::{EventStream, Places},
};

const PAGE: &str = include_str!("page.html");

/// Nothing but what the page itself holds: its script and its style by their hashes, and
/// connections to where it came from.
const CONTENT_POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; \
    script-src 'sha256-uu8FPrIz/eCbijXXEe1sUzWcFqY+j/ILyhSRgidYnN4='; \
    style-src 'sha256-sJypLaxE8TRPUrBBV4MRGJ5VTamnFxfEHruY3MkGC00='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const DEFAULT_STREAMS: usize = 16;
const DEFAULT_EVERY: Duration = Duration::from_millis(500);

/// Serves a [`Diagnosis`] over HTTP: a page for people, and the same as JSON.
///
/// | path | method | answer |
/// | --- | --- | --- |
/// | `/` | `GET`, `HEAD` | one HTML page that asks for nothing from elsewhere and keeps itself up to date |
/// | `/snapshot.json` | `GET`, `HEAD` | [`Snapshot`](crate::Snapshot) |
/// | `/events` | `GET`, `HEAD` | server-sent events: a `snapshot`, then `delta`s with the rows that changed |
/// | `/control` | `POST` | changes something by hand, where that is allowed |
///
/// Other methods are 405 with `Allow`, other paths 404. Only who may see how your service is called
/// and how it fails should reach it: mount it on a port of its own, or behind your own checks. Keys
/// are shown as they are; so do not make keys of secrets.
///
/// # Example
///
/// In axum, beside routes of your own:
///
/// ```
/// use axum::Router;
/// use outrigger_observability::{Diagnosis, DiagnosisService};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let diagnosis = Diagnosis::new();
/// let router: Router =
///     Router::new().nest_service("/diagnosis", DiagnosisService::new(diagnosis));
/// # use tower::ServiceExt;
/// # let request = http::Request::get("/diagnosis").body(axum::body::Body::empty()).unwrap();
/// # assert_eq!(router.clone().oneshot(request).await.unwrap().status(), 200);
/// # let request = http::Request::get("/diagnosis/snapshot.json").body(axum::body::Body::empty());
/// # assert_eq!(router.oneshot(request.unwrap()).await.unwrap().status(), 200);
/// # }
/// ```
///
/// With hyper, on a port of its own:
///
/// ```
/// use hyper_util::{
///     rt::{TokioExecutor, TokioIo},
///     server::conn::auto,
///     service::TowerToHyperService,
/// };
/// use outrigger_observability::{Diagnosis, DiagnosisService};
/// use tokio::net::TcpListener;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let service = DiagnosisService::new(Diagnosis::new());
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// # let address = listener.local_addr()?;
/// tokio::spawn(async move {
///     while let Ok((connection, _)) = listener.accept().await {
///         let service = TowerToHyperService::new(service.clone());
///         tokio::spawn(async move {
///             let server = auto::Builder::new(TokioExecutor::new());
///             server.serve_connection(TokioIo::new(connection), service).await
///         });
///     }
/// });
/// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # let mut client = tokio::net::TcpStream::connect(address).await?;
/// # client.write_all(b"GET /snapshot.json HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
/// # let mut answer = String::new();
/// # client.read_to_string(&mut answer).await?;
/// # assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""format":1"#), "{answer}");
/// # Ok(())
/// # }
/// ```
///
/// # What it costs
///
/// Nothing while nobody looks. Each listener of `/events` makes a snapshot twice a second, for which
/// breakers are locked one after the other for as long as it takes to copy a few numbers.
#[derive(Clone)]
pub struct DiagnosisService {
    diagnosis: Diagnosis,
    token: Option<Arc<Token>>,
    places: Arc<Places>,
    every: Duration,
}

impl DiagnosisService {
    /// Shows what `diagnosis` sees, to 16 listeners at once at most, and lets nobody change
    /// anything.
    #[must_use]
    pub fn new(diagnosis: Diagnosis) -> Self {
        let places = Arc::new(Places::new(DEFAULT_STREAMS));
        Self { diagnosis, token: None, places, every: DEFAULT_EVERY }
    }

    /// How many may listen to `/events` at once; one more gets 503. Default: 16.
    #[must_use]
    pub fn streams(mut self, most: usize) -> Self {
        self.places = Arc::new(Places::new(most));
        self
    }

    /// How often listeners of `/events` are told what changed, at most. Default: 500 ms; at least
    /// 50 ms.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = interval.max(Duration::from_millis(50));
        self
    }

    /// Lets who sends this token force, reset and switch off breakers and limits.
    ///
    /// `POST /control` with `Authorization: Bearer TOKEN` and a JSON object: `part` and `key` of a
    /// row of the snapshot, and what to [`change`](crate::Change). It answers 204; 400 when it does not
    /// understand, 403 without the token, 404 when there is no such row, 409 when that cannot be
    /// changed, 413 for more than 4 KiB. The page asks for the token where it is needed, and forgets
    /// it when it is closed.
    ///
    /// ```
    /// use http::{Request, StatusCode, header::AUTHORIZATION};
    /// use outrigger_observability::{Diagnosis, DiagnosisService};
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let service = DiagnosisService::new(Diagnosis::new()).allow_changes("correct horse battery")?;
    /// let order = r#"{"part": 0, "key": "orders", "change": "force_open"}"#.to_owned();
    /// let request = Request::post("/control")
    ///     .header(AUTHORIZATION, "Bearer correct horse battery")
    ///     .body(order)?;
    /// assert_eq!(service.oneshot(request).await?.status(), StatusCode::NOT_FOUND);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the token is shorter than 16 bytes, or has others than visible ASCII and spaces.
    pub fn allow_changes(mut self, token: impl Into<String>) -> Result<Self, InvalidPolicy> {
        self.token = Some(Arc::new(Token::new(token.into())?));
        Ok(self)
    }

    fn answer<B>(&self, request: Request<B>) -> DiagnosisFuture<B> {
        let readable = [Method::GET, Method::HEAD];
        let response = match request.uri().path() {
            "/control" if request.method() == Method::POST => return self.control(request),
            "/control" => refuse_method("POST"),
            "/" | "" | "/snapshot.json" | "/events" if !readable.contains(request.method()) => {
                refuse_method("GET, HEAD")
            }
            "/" | "" => Self::page(),
            "/snapshot.json" => self.snapshot(),
            "/events" => self.events(),
            _ => text(StatusCode::NOT_FOUND, "there is no such page\n"),
        };
        let is_head = request.method() == Method::HEAD;
        DiagnosisFuture::done(if is_head { without_body(response) } else { response })
    }

    fn page() -> Response<DiagnosisBody> {
        let mut response = with_type("text/html; charset=utf-8", PAGE);
        response
            .headers_mut()
            .insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_POLICY));
        response
    }

    fn snapshot(&self) -> Response<DiagnosisBody> {
        let mut snapshot = self.diagnosis.snapshot();
        snapshot.allows_changes = self.token.is_some();
        let json = serde_json::to_vec(&snapshot).unwrap_or_default();
        with_type("application/json", json)
    }

    fn events(&self) -> Response<DiagnosisBody> {
        let Some(place) = self.places.take() else {
            let told = "as many listen as may; try again later\n";
            let mut response = text(StatusCode::SERVICE_UNAVAILABLE, told);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            return response;
        };
        let (diagnosis, allows_changes) = (self.diagnosis.clone(), self.token.is_some());
        let stream = EventStream::new(diagnosis, allows_changes, self.every, place);
        respond(StatusCode::OK, "text/event-stream", DiagnosisBody::events(stream))
    }

    fn control<B>(&self, request: Request<B>) -> DiagnosisFuture<B> {
        let sent = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let is_allowed = self.token.as_ref().is_some_and(|token| token.is_sent_in(sent));
        if !is_allowed {
            let told = "changes need the token, where they are allowed at all\n";
            return DiagnosisFuture::done(text(StatusCode::FORBIDDEN, told));
        }
        DiagnosisFuture::reading(self.diagnosis.clone(), request.into_body())
    }
}

/// Does what was ordered, and answers.
pub(super) fn obey(diagnosis: &Diagnosis, order: &[u8]) -> Response<DiagnosisBody> {
    match Order::parse(order) {
        Ok(order) => match order.give(diagnosis) {
            Ok(()) => text(StatusCode::NO_CONTENT, ""),
            Err((status, told)) => text(status, format!("{told}\n")),
        },
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

pub(super) fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<DiagnosisBody> {
    respond(status, "text/plain; charset=utf-8", DiagnosisBody::text(text))
}

fn with_type(content: &'static str, text: impl Into<bytes::Bytes>) -> Response<DiagnosisBody> {
    respond(StatusCode::OK, content, DiagnosisBody::text(text))
}

fn refuse_method(allowed: &'static str) -> Response<DiagnosisBody> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this method is not for this page\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn without_body(response: Response<DiagnosisBody>) -> Response<DiagnosisBody> {
    response.map(|_| DiagnosisBody::text(""))
}

fn respond(
    status: StatusCode,
    content: &'static str,
    body: DiagnosisBody,
) -> Response<DiagnosisBody> {
    const HEADERS: [(HeaderName, &str); 3] = [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl<B: Body> Service<Request<B>> for DiagnosisService {
    type Response = Response<DiagnosisBody>;
    type Error = Infallible;
    type Future = DiagnosisFuture<B>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.answer(request)
    }
}

impl fmt::Debug for DiagnosisService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiagnosisService")
            .field("diagnosis", &self.diagnosis)
            .field("allows_changes", &self.token.is_some())
            .finish_non_exhaustive()
    }
}
