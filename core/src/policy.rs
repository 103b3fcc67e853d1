use std::{error::Error, fmt};

/// A setting that cannot be: names the field, its value, and what would be right.
///
/// Comes from building a policy, never from a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPolicy {
    field: &'static str,
    value: String,
    expected: &'static str,
}

impl InvalidPolicy {
    /// Says that `field` has `value` where `expected` would be right.
    ///
    /// ```
    /// use outrigger_core::InvalidPolicy;
    ///
    /// let error = InvalidPolicy::new("error_rate", f64::NAN, "a share above 0 and at most 1");
    /// assert_eq!(error.to_string(), "`error_rate` is NaN; it must be a share above 0 and at most 1");
    /// ```
    #[must_use]
    pub fn new(field: &'static str, value: impl fmt::Debug, expected: &'static str) -> Self {
        Self { field, value: format!("{value:?}"), expected }
    }

    /// The setting's name, as it stands in a policy file.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// The value that was given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What would be right.
    #[must_use]
    pub const fn expected(&self) -> &'static str {
        self.expected
    }
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, expected } = self;
        write!(f, "`{field}` is {value}; it must be {expected}")
    }
}

impl Error for InvalidPolicy {}
