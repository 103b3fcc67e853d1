use std::{num::NonZeroUsize, sync::Arc};

use outrigger_core::{ErrorsAreFailures, OnResponse};
use tower_layer::Layer;

use super::{Named, ObserveService, Plain, at_hand::AtHand, series::Instruments};
use crate::{Contained, Meter, Tracer, meter::SharedMeter};

/// Which side of a call looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Side {
    /// A client sees the whole call, retries and all.
    Client,
    /// A client sees each attempt of a call.
    Attempt,
    /// A server.
    Server,
}

/// What is known of all calls alike.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) side: Side,
    pub(super) system: Option<Arc<str>>,
    pub(super) target: Option<Arc<str>>,
    pub(super) peer: Option<Arc<str>>,
}

/// Looks on at calls: counts and times them, traces them, tells who asks to be told.
///
/// Nothing is installed by itself: say with [`meter`](Self::meter) where metrics go, with `spans`
/// (feature `tracing`) that each call is a span, with [`tracer`](Self::tracer) who else is told.
///
/// All services that one layer value makes, and all clones of it, share their instruments. A layer
/// made anew has instruments of its own, which count into the same series of the user's exporter.
///
/// | parameter | what it decides | default |
/// | --- | --- | --- |
/// | `P` | what is read from a request and a response ([`Protocol`](crate::Protocol)) | nothing |
/// | `C` | what a call turned out to be ([`Classify`](outrigger_core::Classify)) | errors are failures |
/// | `T` | when a call is over ([`TrackCompletion`](outrigger_core::TrackCompletion)) | with its response |
/// | `X` | who is told of each call ([`Tracer`]) | nobody |
#[derive(Clone, Debug)]
pub struct ObserveLayer<P = Plain, C = ErrorsAreFailures, T = OnResponse, X = ()> {
    pub(super) protocol: P,
    classifier: C,
    completion: T,
    tracers: X,
    about: Arc<About>,
    meter: Option<SharedMeter>,
    max_series: NonZeroUsize,
    instruments: Option<Arc<Instruments>>,
    #[cfg(feature = "tracing")]
    spans: crate::trace::Spans,
}

impl ObserveLayer {
    /// How many series a metric has at most, if nothing else is said.
    pub const DEFAULT_MAX_SERIES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

    /// Looks on at whole calls of a client. Its place is outermost.
    #[must_use]
    pub fn client() -> Self {
        Self::new(Side::Client)
    }

    /// Looks on at the calls that a server gets. Its place is outermost.
    #[must_use]
    pub fn server() -> Self {
        Self::new(Side::Server)
    }

    /// Looks on at each attempt of a call. Its place is below the retries.
    #[must_use]
    pub fn attempt() -> Self {
        Self::new(Side::Attempt)
    }

    fn new(side: Side) -> Self {
        Self {
            protocol: Plain,
            classifier: ErrorsAreFailures,
            completion: OnResponse,
            tracers: (),
            about: Arc::new(About { side, system: None, target: None, peer: None }),
            meter: None,
            max_series: Self::DEFAULT_MAX_SERIES,
            instruments: None,
            #[cfg(feature = "tracing")]
            spans: crate::trace::Spans::default(),
        }
    }
}

impl<P, C, T, X> ObserveLayer<P, C, T, X> {
    /// Records metrics with the instruments of `meter`. Default: nowhere.
    ///
    /// Two of them are a tuple of two.
    #[must_use]
    pub fn meter(mut self, meter: impl Meter + 'static) -> Self {
        self.meter = Some(SharedMeter(Arc::new(meter)));
        self.made_anew()
    }

    /// The most series that one metric has; what is beyond counts into one series that is marked
    /// with `otel.metric.overflow`. Default: 1000. At least 8 are taken.
    #[must_use]
    pub fn max_series(mut self, most: NonZeroUsize) -> Self {
        self.max_series = most.max(NonZeroUsize::MIN.saturating_add(7));
        self.made_anew()
    }

    /// Looks on from this side: so one value with all that is to be said of meters, spans and
    /// tracers serves for a client, its attempts and a server.
    #[must_use]
    pub fn side(self, side: Side) -> Self {
        self.about(|about| about.side = side)
    }

    /// The value of `rpc.system.name`. Default: none, with `grpc` it is `grpc`.
    #[must_use]
    pub fn system(self, system: impl Into<Arc<str>>) -> Self {
        self.about(|about| about.system = Some(system.into()))
    }

    /// The logical target of a client, the value of `server.address`. Default: none.
    #[must_use]
    pub fn target(self, target: impl Into<Arc<str>>) -> Self {
        self.about(|about| about.target = Some(target.into()))
    }

    fn about(mut self, change: impl FnOnce(&mut About)) -> Self {
        let mut about = (*self.about).clone();
        change(&mut about);
        self.about = Arc::new(about);
        self.made_anew()
    }

    /// Instruments keep the labels that they were made with.
    fn made_anew(mut self) -> Self {
        let make = |meter: SharedMeter| {
            let about = (*self.about).clone();
            Arc::new(Instruments::new(meter, about, self.max_series.get()))
        };
        self.instruments = self.meter.clone().map(make);
        self
    }

    /// A layer for one endpoint, whose key becomes `network.peer.address`.
    ///
    /// For attempts, below a balancer: give the keys that the balancer has. The layers of all
    /// peers share one cap on series, so keys that come and go do not add up without a bound.
    #[must_use]
    pub fn for_peer(&self, key: impl Into<Arc<str>>) -> Self
    where
        Self: Clone,
    {
        let mut layer = self.clone();
        let about = About { peer: Some(key.into()), ..(*self.about).clone() };
        layer.about = Arc::new(about.clone());
        let for_peer = |shared: &Arc<Instruments>| shared.for_peer(about).map(Arc::new);
        layer.instruments = self.instruments.as_ref().and_then(for_peer);
        layer
    }

    /// Reads requests and responses by `protocol`.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> ObserveLayer<Q, C, T, X> {
        self.map(|_, classifier, completion, tracers| (protocol, classifier, completion, tracers))
    }

    /// Names methods by `namer`, a closure or one of core's: axum's matched route, for example.
    #[must_use]
    pub fn name_methods<N>(self, namer: N) -> ObserveLayer<Named<P, N>, C, T, X> {
        self.map(|protocol, classifier, completion, tracers| {
            (Named { protocol, namer }, classifier, completion, tracers)
        })
    }

    /// Judges calls by `classifier`, a closure or one of core's.
    #[must_use]
    pub fn classify<D>(self, classifier: D) -> ObserveLayer<P, D, T, X> {
        self.map(|protocol, _, completion, tracers| (protocol, classifier, completion, tracers))
    }

    /// Lets a call be over when `completion` says so.
    #[must_use]
    pub fn complete_on<U>(self, completion: U) -> ObserveLayer<P, C, U, X> {
        self.map(|protocol, classifier, _, tracers| (protocol, classifier, completion, tracers))
    }

    /// Tells `tracer` of each call, after those that are there already.
    #[must_use]
    pub fn tracer<Y: Tracer>(self, tracer: Y) -> ObserveLayer<P, C, T, (X, Arc<Contained<Y>>)> {
        self.map(|protocol, classifier, completion, tracers| {
            let tracers = (tracers, Arc::new(Contained::new(tracer)));
            (protocol, classifier, completion, tracers)
        })
    }

    /// Reads HTTP, judges by the status; a call is over when its body is.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(
        self,
    ) -> ObserveLayer<crate::Http, outrigger_core::HttpStatus, outrigger_core::OnBodyEnd, X> {
        self.protocol(crate::Http)
            .classify(outrigger_core::HttpStatus)
            .complete_on(outrigger_core::OnBodyEnd)
    }

    /// Reads gRPC, judges by `grpc-status` in the head or in the trailers; a call is over when its
    /// body is. Sets [`system`](Self::system) to `grpc`.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn grpc(
        self,
    ) -> ObserveLayer<crate::Grpc, outrigger_core::GrpcStatus, outrigger_core::OnBodyEnd, X> {
        self.system("grpc")
            .protocol(crate::Grpc)
            .classify(outrigger_core::GrpcStatus)
            .complete_on(outrigger_core::OnBodyEnd)
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn set_spans(mut self, change: impl FnOnce(&mut crate::trace::Spans)) -> Self {
        change(&mut self.spans);
        self
    }

    fn map<Q, D, U, Y>(
        self,
        change: impl FnOnce(P, C, T, X) -> (Q, D, U, Y),
    ) -> ObserveLayer<Q, D, U, Y> {
        let (protocol, classifier, completion, tracers) =
            change(self.protocol, self.classifier, self.completion, self.tracers);
        ObserveLayer {
            protocol,
            classifier,
            completion,
            tracers,
            about: self.about,
            meter: self.meter,
            max_series: self.max_series,
            instruments: self.instruments,
            #[cfg(feature = "tracing")]
            spans: self.spans,
        }
    }
}

impl<S, P, C, T, X> Layer<S> for ObserveLayer<P, C, T, X>
where
    P: Clone,
    C: Clone,
    T: Clone,
    X: Clone,
{
    type Service = ObserveService<S, P, C, T, X>;

    fn layer(&self, inner: S) -> Self::Service {
        ObserveService {
            inner,
            protocol: self.protocol.clone(),
            classifier: self.classifier.clone(),
            completion: self.completion.clone(),
            tracers: self.tracers.clone(),
            about: Arc::clone(&self.about),
            series: AtHand::new(self.instruments.clone()),
            #[cfg(feature = "tracing")]
            spans: self.spans,
        }
    }
}
