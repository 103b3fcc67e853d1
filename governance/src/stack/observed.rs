//! Who looks on at calls and attempts from within a stack.

use outrigger_core::{ErrorsAreFailures, MethodRef, OnResponse};
use outrigger_observability::{
    Carrier, ObserveLayer, Plain, Protocol, ReadStatus, Side, Status, Tracer,
};
use tower_layer::Stack;

use super::{AnyRequest, ClientLayer, Governed, Inner, ServerLayer, Wire};

/// A [`Wire`] that says what an [`ObserveLayer`] reads from its requests and answers.
pub trait ObservedWire: Wire {
    /// Reads answers and errors, and where a trace context travels. The method and the number of
    /// an attempt are known to the stack.
    type Reader: Clone;

    /// Reads answers and errors, and where a trace context travels.
    fn reader(&self) -> Self::Reader;

    /// The value of `rpc.system.name`, if the protocol has one. Default: none.
    fn system(&self) -> Option<&'static str> {
        None
    }
}

/// What looks on within a stack of `W`, and tells the tracers `X`.
pub type ObservedBy<W, X> = ObserveLayer<
    Inner<<W as ObservedWire>::Reader>,
    <W as Wire>::Classifier,
    <W as Wire>::Completion,
    X,
>;

/// `L`, and outside of it what looks on.
type Seen<L, W, X> = Stack<L, ObservedBy<W, X>>;
/// A client whose calls and attempts are looked on.
type SeenClient<W, O, A, C, X> = ClientLayer<W, O, Seen<A, W, X>, Seen<C, W, X>>;

impl<W: ObservedWire, O, A, C> ClientLayer<W, O, A, C> {
    /// Looks on at each call, outermost, and at each attempt, outside the circuit breaker, by what
    /// `layer` says of meters, spans and tracers. Default: nobody looks on, and nothing is paid.
    ///
    /// How requests and answers are read is known already; whether `layer` was made for a client
    /// or a server does not matter. Metrics are labelled with the method that a call is governed
    /// by. An attempt of a policy in shadow is none: it is not sent. The endpoint of an attempt is
    /// not known before its balancer has picked one: `ObserveLayer::for_peer` goes below it.
    ///
    /// ```
    /// # #[cfg(feature = "metrics")] {
    /// use outrigger::{
    ///     Governance, PolicySet,
    ///     core::{MethodRef, Rejection},
    ///     observability::{FacadeMeter, ObserveLayer},
    /// };
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// fn name<'a>(_request: &'a u32) -> Option<MethodRef<'a>> {
    ///     Some(MethodRef { service: "shop.Cart", method: "Get" })
    /// }
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let governance = Governance::new(PolicySet::default());
    /// let seen = ObserveLayer::client().target("shop").meter(FacadeMeter::new());
    /// let client = ServiceBuilder::new()
    ///     .layer(governance.client(name).observe(seen))
    ///     .service(service_fn(async |n: u32| Ok::<_, Rejection>(n + 1)));
    /// assert_eq!(client.oneshot(1).await, Ok(2));
    /// # });
    /// # }
    /// ```
    #[must_use]
    pub fn observe<X>(
        self,
        layer: ObserveLayer<Plain, ErrorsAreFailures, OnResponse, X>,
    ) -> SeenClient<W, O, A, C, X>
    where
        X: Tracer + Clone,
    {
        let layer = observed_by(&self.wire, layer);
        let of_attempts = layer.clone().side(Side::Attempt);
        self.around_attempts(of_attempts).around_calls(layer.side(Side::Client))
    }
}

impl<W: ObservedWire, O, C> ServerLayer<W, O, C> {
    /// Looks on at each call, outermost, by what `layer` says of meters, spans and tracers.
    /// Default: nobody looks on, and nothing is paid. See
    /// [`ClientLayer::observe`](super::ClientLayer::observe).
    #[must_use]
    pub fn observe<X>(
        self,
        layer: ObserveLayer<Plain, ErrorsAreFailures, OnResponse, X>,
    ) -> ServerLayer<W, O, Seen<C, W, X>>
    where
        X: Tracer + Clone,
    {
        let layer = observed_by(&self.wire, layer);
        self.around_calls(layer.side(Side::Server))
    }
}

fn observed_by<W: ObservedWire, X>(
    wire: &W,
    layer: ObserveLayer<Plain, ErrorsAreFailures, OnResponse, X>,
) -> ObservedBy<W, X> {
    let layer = match wire.system() {
        Some(system) => layer.system(system),
        None => layer,
    };
    layer.protocol(Inner(wire.reader())).classify(wire.classifier()).complete_on(wire.completion())
}

impl<R, O, P: Protocol<R>, E> Protocol<Governed<R, O, E>> for Inner<P> {
    /// The method by which the call was found to be governed.
    fn method<'a>(&self, request: &'a Governed<R, O, E>) -> Option<MethodRef<'a>> {
        request.state.named()
    }

    fn attempt(&self, request: &Governed<R, O, E>) -> u32 {
        request.attempt()
    }

    fn carrier<'a>(&self, request: &'a mut Governed<R, O, E>) -> Option<&'a mut dyn Carrier> {
        self.0.carrier(&mut request.request)
    }
}

impl<Response, Error, P: ReadStatus<Response, Error>> ReadStatus<Response, Error> for Inner<P> {
    fn status(&self, result: Result<&Response, &Error>) -> Status {
        self.0.status(result)
    }

    #[cfg(feature = "http")]
    fn status_of_trailers(&self, head: Status, trailers: &http::HeaderMap) -> Status {
        self.0.status_of_trailers(head, trailers)
    }
}

impl<N: Clone, X: Clone, C: Clone> ObservedWire for AnyRequest<N, X, C> {
    type Reader = Plain;

    fn reader(&self) -> Plain {
        Plain
    }
}

#[cfg(feature = "http")]
mod of_http {
    use outrigger_observability::{Grpc, Http};

    use super::ObservedWire;
    use crate::{GrpcWire, HttpWire};

    impl<N: Clone> ObservedWire for HttpWire<N> {
        type Reader = Http;

        fn reader(&self) -> Http {
            Http
        }
    }

    macro_rules! grpc {
        ($wire:ty) => {
            impl ObservedWire for $wire {
                type Reader = Grpc;

                fn reader(&self) -> Grpc {
                    Grpc
                }

                fn system(&self) -> Option<&'static str> {
                    Some("grpc")
                }
            }
        };
    }

    grpc!(GrpcWire);
    #[cfg(feature = "tonic")]
    grpc!(crate::TonicWire);
    #[cfg(feature = "tonic")]
    grpc!(crate::TonicChannelWire);
}
