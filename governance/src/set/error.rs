use std::{error::Error, fmt, io};

use crate::InvalidPolicies;

/// Why a policy file was not loaded.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The file's extension tells no format.
    Extension(Box<str>),
    /// The file cannot be read.
    File(Box<str>, io::Error),
    /// Its content is invalid.
    Invalid(InvalidPolicies),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extension(name) => {
                write!(f, "{name}: the extension must be json, yaml, yml or toml")
            }
            Self::File(name, error) => write!(f, "{name}: {error}"),
            Self::Invalid(problems) => problems.fmt(f),
        }
    }
}

impl Error for LoadError {}

impl From<InvalidPolicies> for LoadError {
    fn from(problems: InvalidPolicies) -> Self {
        Self::Invalid(problems)
    }
}
