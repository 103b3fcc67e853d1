//! Checks that the policies of this crate share.

use std::{fmt, ops::RangeInclusive, time::Duration};

use outrigger_core::InvalidPolicy;

pub(crate) fn within<T: PartialOrd + fmt::Debug>(
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
    expected: &'static str,
) -> Result<(), InvalidPolicy> {
    if range.contains(&value) { Ok(()) } else { Err(InvalidPolicy::new(field, value, expected)) }
}

pub(crate) fn longer_than_zero(
    field: &'static str,
    duration: Duration,
) -> Result<(), InvalidPolicy> {
    within(field, duration, Duration::from_nanos(1)..=Duration::MAX, "longer than 0")
}
