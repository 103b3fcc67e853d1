use std::{fmt, str::FromStr};

use outrigger_core::InvalidPolicy;

/// A set of gRPC status codes, as service configs name them: `UNAVAILABLE`.
///
/// ```
/// use outrigger_retry::GrpcCodes;
///
/// let codes = GrpcCodes::from_names(["UNAVAILABLE", "RESOURCE_EXHAUSTED"])?;
/// assert!(codes.contains(14));
/// assert_eq!(codes.to_string(), "RESOURCE_EXHAUSTED, UNAVAILABLE");
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Vec<String>", into = "Vec<String>"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrpcCodes {
    /// Bit `n` stands for code `n`.
    bits: u32,
}

/// The codes of the gRPC specification (`statuscodes.md`), by number.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl GrpcCodes {
    /// No code.
    pub const NONE: Self = Self { bits: 0 };
    /// `UNAVAILABLE`, what gRPC's own examples retry.
    pub const UNAVAILABLE: Self = Self { bits: 1 << 14 };

    /// Reads the names of codes, in any case, or their numbers, as service configs allow.
    ///
    /// # Errors
    ///
    /// Names the first that is no code.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidPolicy> {
        let mut codes = Self::NONE;
        for name in names {
            codes.bits |= name.parse::<Self>()?.bits;
        }
        Ok(codes)
    }

    /// Adds the code with this number. A number beyond the known ones changes nothing.
    #[must_use]
    pub const fn with(self, code: u8) -> Self {
        if (code as usize) < NAMES.len() { Self { bits: self.bits | 1 << code } } else { self }
    }

    /// Whether the code with this number is in the set.
    #[must_use]
    pub const fn contains(self, code: i32) -> bool {
        code >= 0 && code < 32 && self.bits >> code & 1 == 1
    }

    /// Whether there is no code in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// The names of the codes, by number.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .into_iter()
            .zip(0..)
            .filter(move |(_, code)| self.contains(*code))
            .map(|(name, _)| name)
    }
}

impl FromStr for GrpcCodes {
    type Err = InvalidPolicy;

    /// Reads the name of one code, in any case, or its number, as service configs allow.
    fn from_str(code: &str) -> Result<Self, InvalidPolicy> {
        let by_name = NAMES.iter().position(|name| name.eq_ignore_ascii_case(code));
        let by_number = || code.parse().ok().filter(|number| *number < NAMES.len());
        let number = by_name.or_else(by_number).ok_or_else(|| {
            let expected = "a gRPC status code, such as `UNAVAILABLE`";
            InvalidPolicy::new("retryable_status_codes", code, expected)
        })?;
        Ok(Self { bits: 1 << number })
    }
}

/// As a list of names.
impl fmt::Debug for GrpcCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

impl fmt::Display for GrpcCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, name) in self.names().enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            write!(f, "{comma}{name}")?;
        }
        Ok(())
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Vec<String>> for GrpcCodes {
    type Error = InvalidPolicy;

    fn try_from(names: Vec<String>) -> Result<Self, InvalidPolicy> {
        Self::from_names(names.iter().map(String::as_str))
    }
}

#[cfg(feature = "serde")]
impl From<GrpcCodes> for Vec<String> {
    fn from(codes: GrpcCodes) -> Self {
        codes.names().map(str::to_owned).collect()
    }
}
