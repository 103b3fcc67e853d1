//! Where a time-out and a deadline come from.

use std::{sync::Arc, time::Duration};

use outrigger_core::{CarryContext, Live, LiveReader, Moment, NameMethod, PerMethod};
use tokio::time::Instant;

use super::TimeoutPolicy;

/// Chooses the policy for a request.
pub trait ChooseTimeout<Request> {
    /// The policy for `request`.
    fn choose(&mut self, request: &Request) -> TimeoutPolicy;
}

/// One policy for all requests.
impl<Request> ChooseTimeout<Request> for LiveReader<TimeoutPolicy> {
    fn choose(&mut self, _request: &Request) -> TimeoutPolicy {
        *self.get()
    }
}

/// The time that a closure reads from the request; the policy's own where it reads none.
#[derive(Clone, Debug)]
pub struct FromRequest<F> {
    pub(super) read: F,
    pub(super) policy: LiveReader<TimeoutPolicy>,
}

impl<Request, F> ChooseTimeout<Request> for FromRequest<F>
where
    F: Fn(&Request) -> Option<Duration>,
{
    fn choose(&mut self, request: &Request) -> TimeoutPolicy {
        let policy = *self.policy.get();
        match (self.read)(request) {
            Some(timeout) => TimeoutPolicy::after(timeout).with_enforcement(policy.enforcement()),
            None => policy,
        }
    }
}

/// A policy for each method.
#[derive(Clone, Debug)]
pub struct PerMethodTimeout<N> {
    pub(super) namer: N,
    pub(super) policies: Arc<PerMethod<Live<TimeoutPolicy>>>,
}

impl<Request, N> ChooseTimeout<Request> for PerMethodTimeout<N>
where
    N: NameMethod<Request>,
{
    fn choose(&mut self, request: &Request) -> TimeoutPolicy {
        **self.policies.get(self.namer.name_method(request)).load()
    }
}

/// Where a deadline travels with a request.
pub trait CarryDeadline<Request> {
    /// When the call must be over, as the request says. `now` reads the clock, once.
    fn deadline(&self, request: &Request, now: &mut Now) -> Option<Instant>;

    /// The part of [`deadline`](Self::deadline) that a peer said, for who knows the context
    /// otherwise. Default: peers say nothing.
    fn peer_deadline(&self, _request: &Request, _now: &mut Now) -> Option<Instant> {
        None
    }

    /// Tells the layers and peers further on when the call must be over. `now` reads the clock,
    /// once.
    fn set_deadline(&self, request: &mut Request, deadline: Instant, now: &mut Now);

    /// The part of [`set_deadline`](Self::set_deadline) that tells the peer, for who has told the
    /// layers further in otherwise. Default: peers are told nothing.
    fn tell_peer(&self, _request: &mut Request, _deadline: Instant, _now: &mut Now) {}

    /// Whether this does anything: if not, the clock is not read before a call is pending.
    #[must_use]
    fn carries(&self) -> bool {
        true
    }
}

/// Finds a peer's time-out in its answer.
///
/// Whoever is told a deadline has a timer of his own, which runs out at the same moment, and may
/// give an answer before the caller's timer is looked at.
pub trait ReadTimeout<Response> {
    /// Whether the answer, which came at the deadline, may say no more than that the time is over.
    fn is_timeout(&self, response: &Response) -> bool;
}

/// Reads the clock when it is first asked, and says the same from then on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    read: Option<Instant>,
}

impl Now {
    /// The present.
    pub fn get(&mut self) -> Instant {
        *self.read.get_or_insert_with(Moment::now)
    }
}

/// Deadlines travel nowhere. The default, since it fits any request type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoDeadline;

impl<Request> CarryDeadline<Request> for NoDeadline {
    fn deadline(&self, _request: &Request, _now: &mut Now) -> Option<Instant> {
        None
    }

    fn set_deadline(&self, _request: &mut Request, _deadline: Instant, _now: &mut Now) {}

    fn carries(&self) -> bool {
        false
    }
}

impl<Response> ReadTimeout<Response> for NoDeadline {
    fn is_timeout(&self, _response: &Response) -> bool {
        false
    }
}

/// The deadline stands in the [`AttemptContext`](outrigger_core::AttemptContext), where the layers
/// further in see it. A request that has none takes that of the call being served
/// ([`Chain`](crate::Chain)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InContext<X>(pub X);

impl<Request, X: CarryContext<Request>> CarryDeadline<Request> for InContext<X> {
    fn deadline(&self, request: &Request, _now: &mut Now) -> Option<Instant> {
        match self.0.context(request) {
            Some(context) => context.deadline,
            None => crate::Chain::current().deadline(),
        }
    }

    fn set_deadline(&self, request: &mut Request, deadline: Instant, _now: &mut Now) {
        let mut context =
            self.0.context(request).cloned().unwrap_or_else(|| crate::Chain::current().context());
        context.deadline = Some(deadline);
        self.0.set_context(request, context);
    }
}

/// An answer stays what it is.
impl<Response, X> ReadTimeout<Response> for InContext<X> {
    fn is_timeout(&self, _response: &Response) -> bool {
        false
    }
}

#[cfg(feature = "http")]
pub use self::grpc::GrpcDeadline;

#[cfg(feature = "http")]
mod grpc {
    use std::{cell::RefCell, time::Duration};

    use http::{HeaderName, HeaderValue, Request, Response};
    use outrigger_core::InExtensions;
    use tokio::time::Instant;

    use super::{CarryDeadline, InContext, Now, ReadTimeout};

    /// The deadline stands in the context in the request's extensions, and as `grpc-timeout` in
    /// its headers: the time left when it is sent.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct GrpcDeadline;

    const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
    const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

    impl<B> CarryDeadline<Request<B>> for GrpcDeadline {
        fn deadline(&self, request: &Request<B>, now: &mut Now) -> Option<Instant> {
            let in_context = InContext(InExtensions).deadline(request, now);
            in_context.into_iter().chain(self.peer_deadline(request, now)).min()
        }

        fn peer_deadline(&self, request: &Request<B>, now: &mut Now) -> Option<Instant> {
            let left = request.headers().get(&GRPC_TIMEOUT).and_then(parse)?;
            now.get().checked_add(left)
        }

        fn set_deadline(&self, request: &mut Request<B>, deadline: Instant, now: &mut Now) {
            InContext(InExtensions).set_deadline(request, deadline, now);
            self.tell_peer(request, deadline, now);
        }

        fn tell_peer(&self, request: &mut Request<B>, deadline: Instant, now: &mut Now) {
            let left = deadline.saturating_duration_since(now.get());
            let headers = request.headers_mut();
            let is_one = headers.get_all(&GRPC_TIMEOUT).iter().nth(1).is_none();
            match headers.get_mut(&GRPC_TIMEOUT) {
                // To insert one that is there lets a full map grow.
                Some(value) if is_one => *value = written(left),
                _ => _ = headers.insert(GRPC_TIMEOUT, written(left)),
            }
        }
    }

    /// A server says `DEADLINE_EXCEEDED` (4), or `CANCELLED` (1) as tonic's does, in the head.
    impl<B> ReadTimeout<Response<B>> for GrpcDeadline {
        fn is_timeout(&self, response: &Response<B>) -> bool {
            let status = response.headers().get(&GRPC_STATUS);
            status.is_some_and(|status| matches!(status.as_bytes(), b"1" | b"4"))
        }
    }

    std::thread_local! {
        /// What was written last: two, since a call may have a time-out and each attempt another.
        static LAST: RefCell<[Option<(Duration, HeaderValue)>; 2]> =
            const { RefCell::new([None, None]) };
    }

    /// The time left as the header says it. A call that begins with its whole time-out says what
    /// the one before it said, which then costs no allocation.
    fn written(left: Duration) -> HeaderValue {
        // What is left of a time that runs is not the same twice: it would only turn others out.
        if !left.subsec_nanos().is_multiple_of(1_000_000) {
            return format(left);
        }
        let cached = LAST.try_with(|last| {
            let mut last = last.borrow_mut();
            if let Some((_, value)) = last.iter().flatten().find(|(of, _)| *of == left) {
                return value.clone();
            }
            last.swap(0, 1);
            last[0].insert((left, format(left))).1.clone()
        });
        cached.unwrap_or_else(|_| format(left))
    }

    /// At most 8 digits and a unit, as the gRPC specification says (PROTOCOL-HTTP2.md).
    pub(super) fn parse(value: &HeaderValue) -> Option<Duration> {
        let value = value.to_str().ok()?;
        let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
        let is_number = !digits.is_empty() && digits.len() <= 8;
        let n: u64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
        is_number.then_some(())?;
        match unit {
            "H" => Some(Duration::from_secs(n * 3_600)),
            "M" => Some(Duration::from_secs(n * 60)),
            "S" => Some(Duration::from_secs(n)),
            "m" => Some(Duration::from_millis(n)),
            "u" => Some(Duration::from_micros(n)),
            "n" => Some(Duration::from_nanos(n)),
            _ => None,
        }
    }

    /// In the finest unit that fits into 8 digits, rounded down: nobody further on may think that
    /// there is more time than there is.
    pub(super) fn format(left: Duration) -> HeaderValue {
        const MOST: u128 = 99_999_999;
        let units = [
            (left.as_nanos(), b'n'),
            (left.as_micros(), b'u'),
            (left.as_millis(), b'm'),
            (u128::from(left.as_secs()), b'S'),
            (u128::from(left.as_secs() / 60), b'M'),
        ];
        let fits = units.into_iter().find(|(n, _)| *n <= MOST);
        let (n, unit) = fits.unwrap_or((u128::from(left.as_secs() / 3_600).min(MOST), b'H'));
        // By hand: the formatter, and the string that it writes to, cost more than all the rest.
        let mut rest = usize::try_from(n).expect("at most 8 digits");
        let mut text = [unit; 9];
        let mut begin = text.len() - 1;
        loop {
            begin -= 1;
            text[begin] = b"0123456789"[rest % 10];
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        HeaderValue::from_bytes(&text[begin..]).expect("digits and a letter")
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_unit_is_read_and_nonsense_is_not() {
            let read = |text: &'static str| parse(&HeaderValue::from_static(text));
            let ms = |n| Some(Duration::from_millis(n));
            assert_eq!(read("1H"), ms(3_600_000));
            assert_eq!(read("2M"), ms(120_000));
            assert_eq!([read("3S"), read("250m"), read("1000u")], [ms(3_000), ms(250), ms(1)]);
            assert_eq!(read("5n"), Some(Duration::from_nanos(5)));
            assert_eq!(read("99999999H"), ms(99_999_999 * 3_600_000));
            for nonsense in ["", "m", "5", "5x", "-1m", "+1m", "123456789m", "1 m", "1.5S"] {
                assert_eq!(read(nonsense), None, "{nonsense:?}");
            }
        }

        #[test]
        fn each_unit_is_written_in_its_digits_and_with_one_allocation() {
            let written = |left| format(left).to_str().expect("text").to_owned();
            assert_eq!(written(Duration::ZERO), "0n");
            assert_eq!(written(Duration::from_nanos(99_999_999)), "99999999n");
            assert_eq!(written(Duration::from_millis(100)), "100000u");
            assert_eq!(written(Duration::from_secs(3_600)), "3600000m");
            assert_eq!(written(Duration::from_secs(1_234_567)), "1234567S");
            assert_eq!(written(Duration::from_secs(600_000_000)), "10000000M");
            assert_eq!(written(Duration::MAX), "99999999H");
            let left = Duration::from_millis(250);
            let counted = allocation_counter::measure(|| drop(format(left)));
            assert_eq!(counted.count_total, 1);
        }

        #[test]
        fn the_same_time_is_written_again_without_an_allocation() {
            let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
            let [first, other, again] = [second, minute, second].map(written);
            assert_eq!([&first, &other, &again], ["1000000u", "60000000u", "1000000u"]);
            let allocations =
                |left| allocation_counter::measure(|| drop(written(left))).count_total;
            assert_eq!(allocations(second), 0);
            assert_eq!(allocations(minute), 0, "a call's and an attempt's");
            assert_eq!(allocations(second + Duration::from_nanos(1)), 1);
            assert_eq!(allocations(second), 0, "still there");
        }

        #[test]
        fn what_is_written_is_never_more_than_what_is_left() {
            for left in [
                Duration::ZERO,
                Duration::from_nanos(1),
                Duration::from_micros(123_456_789),
                Duration::from_secs(99_999_999),
                Duration::from_secs(100_000_000),
                Duration::MAX,
            ] {
                let read = parse(&format(left)).expect("what was written");
                assert!(read <= left, "{read:?} of {left:?}");
                let lost = left.saturating_sub(read);
                let is_long = left > Duration::from_secs(10_000_000);
                assert!(is_long || lost <= left / 100_000, "{read:?} of {left:?}");
            }
        }
    }
}
