use outrigger_core::{ErrorsAreFailures, NoContext, OnResponse};
use outrigger_retry::{ByClone, InContext, Plain};

use super::{Envelope, Leave, WithRequest};

/// What a stack must know of requests and answers, for all its layers at once.
///
/// [`AnyRequest`] is for any type; `HttpWire`, `GrpcWire` (feature `http`) and `TonicWire` (feature
/// `tonic`) know their protocols.
pub trait Wire: Clone {
    /// Names the method of a request.
    type Namer: Clone;
    /// Judges what a call turned out to be.
    type Classifier: Clone;
    /// Judges whether a server accepted a call.
    type Overload: Clone;
    /// When a call is over.
    type Completion: Clone;
    /// Where the attempts' context travels.
    type Context: Clone;
    /// Whether the service inside of a stack is told the attempts' context ([`WithRequest`]), or only
    /// the stack's own layers ([`InEnvelope`](super::InEnvelope)).
    type Envelope: Envelope;
    /// Where the deadline travels.
    type Deadline: Clone;
    /// How a request is sent again.
    type Replay: Clone;
    /// What requests and answers say of retries.
    type Protocol: Clone;
    /// The inside of a stack over `S`.
    type Inside<S>;

    /// Names the method of a request.
    fn namer(&self) -> &Self::Namer;
    /// Judges what a call turned out to be.
    fn classifier(&self) -> Self::Classifier;
    /// Judges whether a server accepted a call.
    fn overload(&self) -> Self::Overload;
    /// When a call is over.
    fn completion(&self) -> Self::Completion;
    /// Where the attempts' context travels.
    fn context(&self) -> Self::Context;
    /// Where the deadline travels.
    fn deadline(&self) -> Self::Deadline;
    /// How a request is sent again.
    fn replay(&self) -> Self::Replay;
    /// What requests and answers say of retries.
    fn protocol(&self) -> Self::Protocol;
    /// The inside of a stack over `service`.
    fn inside<S>(&self, service: S) -> Self::Inside<S>;
}

/// Any request type, named by `N`, with a context that travels by `X`, judged by `C`.
///
/// Further attempts are sent as clones of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnyRequest<N, X = NoContext, C = ErrorsAreFailures> {
    namer: N,
    context: X,
    classifier: C,
}

impl<N> AnyRequest<N> {
    /// Requests whose method `namer` names.
    #[must_use]
    pub const fn new(namer: N) -> Self {
        Self { namer, context: NoContext, classifier: ErrorsAreFailures }
    }
}

impl<N, X, C> AnyRequest<N, X, C> {
    /// Lets the attempts' context and the deadline travel by `context`.
    #[must_use]
    pub fn carry<Y>(self, context: Y) -> AnyRequest<N, Y, C> {
        AnyRequest { namer: self.namer, context, classifier: self.classifier }
    }

    /// Judges answers by `classifier`.
    #[must_use]
    pub fn classify<D>(self, classifier: D) -> AnyRequest<N, X, D> {
        AnyRequest { namer: self.namer, context: self.context, classifier }
    }
}

impl<N: Clone, X: Clone, C: Clone> Wire for AnyRequest<N, X, C> {
    type Namer = N;
    type Classifier = C;
    type Overload = C;
    type Completion = OnResponse;
    type Context = X;
    type Envelope = WithRequest;
    type Deadline = InContext<X>;
    type Replay = ByClone;
    type Protocol = Plain<X>;
    type Inside<S> = Leave<S>;

    fn namer(&self) -> &N {
        &self.namer
    }

    fn classifier(&self) -> C {
        self.classifier.clone()
    }

    fn overload(&self) -> C {
        self.classifier.clone()
    }

    fn completion(&self) -> OnResponse {
        OnResponse
    }

    fn context(&self) -> X {
        self.context.clone()
    }

    fn deadline(&self) -> InContext<X> {
        InContext(self.context.clone())
    }

    fn replay(&self) -> ByClone {
        ByClone
    }

    fn protocol(&self) -> Plain<X> {
        Plain::new(self.context.clone())
    }

    fn inside<S>(&self, service: S) -> Leave<S> {
        Leave(service)
    }
}

#[cfg(feature = "http")]
mod http {
    use outrigger_core::{GrpcPath, GrpcStatus, HttpStatus, InExtensions, OnBodyEnd};
    use outrigger_ratelimit::OverloadStatus;
    use outrigger_retry::{Grpc, GrpcDeadline, Http, InContext, Replay};

    #[cfg(feature = "tonic")]
    use super::super::{InEnvelope, LeaveForTonic};
    use super::{Leave, Wire, WithRequest};

    /// HTTP requests, whose method `N` names: judged by status, over when their body is over.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct HttpWire<N> {
        namer: N,
    }

    impl<N> HttpWire<N> {
        /// Requests whose method `namer` names. It must not name them by the raw path.
        #[must_use]
        pub const fn new(namer: N) -> Self {
            Self { namer }
        }
    }

    /// gRPC over HTTP/2, as clients and servers of any library speak it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct GrpcWire;

    macro_rules! common {
        () => {
            type Overload = OverloadStatus;
            type Completion = OnBodyEnd;
            type Context = InExtensions;
            type Replay = Replay;

            fn overload(&self) -> OverloadStatus {
                OverloadStatus::default()
            }

            fn completion(&self) -> OnBodyEnd {
                OnBodyEnd
            }

            fn context(&self) -> InExtensions {
                InExtensions
            }
        };
    }

    macro_rules! grpc {
        () => {
            type Namer = GrpcPath;
            type Classifier = GrpcStatus;
            type Deadline = GrpcDeadline;
            type Protocol = Grpc;

            fn namer(&self) -> &GrpcPath {
                &GrpcPath
            }

            fn classifier(&self) -> GrpcStatus {
                GrpcStatus
            }

            fn deadline(&self) -> GrpcDeadline {
                GrpcDeadline
            }

            fn protocol(&self) -> Grpc {
                Grpc
            }
        };
    }

    #[cfg(feature = "tonic")]
    macro_rules! tonic {
        () => {
            type Inside<S> = LeaveForTonic<S>;

            fn inside<S>(&self, service: S) -> LeaveForTonic<S> {
                LeaveForTonic(service)
            }
        };
    }

    impl<N: Clone> Wire for HttpWire<N> {
        common!();

        type Envelope = WithRequest;
        type Namer = N;
        type Classifier = HttpStatus;
        type Deadline = InContext<InExtensions>;
        type Protocol = Http;
        type Inside<S> = Leave<S>;

        fn namer(&self) -> &N {
            &self.namer
        }

        fn classifier(&self) -> HttpStatus {
            HttpStatus
        }

        fn deadline(&self) -> InContext<InExtensions> {
            InContext(InExtensions)
        }

        fn protocol(&self) -> Http {
            Http
        }

        fn replay(&self) -> Replay {
            Replay::default()
        }

        fn inside<S>(&self, service: S) -> Leave<S> {
            Leave(service)
        }
    }

    impl Wire for GrpcWire {
        common!();
        grpc!();

        type Envelope = WithRequest;
        type Inside<S> = Leave<S>;

        fn replay(&self) -> Replay {
            Replay::default()
        }

        fn inside<S>(&self, service: S) -> Leave<S> {
            Leave(service)
        }
    }

    /// gRPC over a `tonic` channel, or over a service that takes the same requests.
    #[cfg(feature = "tonic")]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct TonicWire;

    #[cfg(feature = "tonic")]
    impl Wire for TonicWire {
        common!();
        grpc!();
        tonic!();

        type Envelope = WithRequest;

        fn replay(&self) -> Replay {
            Replay::default()
        }
    }

    /// gRPC over a `tonic` channel itself, which reads no extensions: it is given none of a request
    /// that may be sent again, nor the attempts' context.
    #[cfg(feature = "tonic")]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct TonicChannelWire;

    #[cfg(feature = "tonic")]
    impl Wire for TonicChannelWire {
        common!();
        grpc!();
        tonic!();

        type Envelope = InEnvelope;

        fn replay(&self) -> Replay {
            Replay::default().without_extensions()
        }
    }
}

#[cfg(feature = "http")]
pub use self::http::{GrpcWire, HttpWire};
#[cfg(feature = "tonic")]
pub use self::http::{TonicChannelWire, TonicWire};
