use std::time::Duration;

/// What a server says about when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a server says when, or never")]
pub enum Pushback {
    /// After so long.
    Wait(Duration),
    /// Not at all.
    Stop,
}

#[cfg(feature = "http")]
mod headers {
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};

    use super::Pushback;

    const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

    impl Pushback {
        /// Reads `grpc-retry-pushback-ms` (gRFC A6: milliseconds; a negative number or nonsense
        /// means never) or else `Retry-After` (RFC 9110: seconds or a date; nonsense says nothing).
        #[must_use]
        pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
            Self::of_headers_at(headers, SystemTime::now)
        }

        pub(super) fn of_headers_at(
            headers: &HeaderMap,
            now: impl FnOnce() -> SystemTime,
        ) -> Option<Self> {
            if let Some(pushback) = headers.get(&GRPC_PUSHBACK) {
                return Some(of_grpc(pushback));
            }
            let after = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
            if let Some(seconds) = decimal(after) {
                return Some(Self::Wait(Duration::from_secs(seconds)));
            }
            let date = httpdate::parse_http_date(after).ok()?;
            Some(Self::Wait(date.duration_since(now()).unwrap_or(Duration::ZERO)))
        }
    }

    fn of_grpc(pushback: &HeaderValue) -> Pushback {
        let ms = pushback.to_str().ok().and_then(|ms| ms.parse::<i32>().ok());
        match ms.map(u64::try_from) {
            Some(Ok(ms)) => Pushback::Wait(Duration::from_millis(ms)),
            _ => Pushback::Stop,
        }
    }

    /// Digits only: no sign, no fraction.
    fn decimal(text: &str) -> Option<u64> {
        let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More seconds than fit are for ever.
        is_decimal.then(|| text.parse().unwrap_or(u64::MAX))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn read(name: HeaderName, value: &'static str) -> Option<Pushback> {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            // 1994-11-15T08:12:31Z.
            let now = || SystemTime::UNIX_EPOCH + Duration::from_secs(784_887_151);
            Pushback::of_headers_at(&headers, now)
        }

        fn ms(ms: u64) -> Pushback {
            Pushback::Wait(Duration::from_millis(ms))
        }

        #[test]
        fn grpc_says_milliseconds_or_never() {
            let read = |value| read(GRPC_PUSHBACK, value);
            assert_eq!(
                [read("0"), read("250"), read("2147483647")],
                [0, 250, 2_147_483_647].map(|n| Some(ms(n)))
            );
            for never in ["-1", "-2147483648", "", "soon", "1.5", "2147483648"] {
                assert_eq!(read(never), Some(Pushback::Stop), "{never:?}");
            }
        }

        #[test]
        fn http_says_seconds_or_a_date() {
            let read = |value| read(RETRY_AFTER, value);
            assert_eq!([read("0"), read("120")], [0, 120_000].map(|n| Some(ms(n))));
            assert_eq!(read("Tue, 15 Nov 1994 08:12:41 GMT"), Some(ms(10_000)));
            assert_eq!(read("Tuesday, 15-Nov-94 08:12:41 GMT"), Some(ms(10_000)), "the old form");
            assert_eq!(read("Tue, 15 Nov 1994 08:12:21 GMT"), Some(ms(0)), "a date that is past");
            assert_eq!(
                read("99999999999999999999"),
                Some(Pushback::Wait(Duration::from_secs(u64::MAX)))
            );
            for nothing in ["", "-1", "soon", "1.5", "+5"] {
                assert_eq!(read(nothing), None, "{nothing:?}");
            }
        }

        #[test]
        fn grpcs_word_counts_more_and_silence_says_nothing() {
            let both = [(GRPC_PUSHBACK, "-1"), (RETRY_AFTER, "1")];
            let both = both.map(|(name, value)| (name, HeaderValue::from_static(value)));
            let headers = HeaderMap::from_iter(both);
            assert_eq!(Pushback::of_headers(&headers), Some(Pushback::Stop));
            assert_eq!(Pushback::of_headers(&HeaderMap::new()), None);
        }
    }
}
