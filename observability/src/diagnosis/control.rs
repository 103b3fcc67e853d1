use std::{fmt, hint::black_box};

use http::StatusCode;
use outrigger_core::InvalidPolicy;
use serde::Deserialize;

use super::{
    handle::Diagnosis,
    parts::{CannotChange, Change},
};

/// What was ordered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    part: u64,
    #[serde(default)]
    key: String,
    change: Change,
}

impl Order {
    pub(super) fn parse(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    pub(super) fn give(&self, diagnosis: &Diagnosis) -> Result<(), (StatusCode, CannotChange)> {
        diagnosis.change(self.part, &self.key, self.change).map_err(|error| match error {
            CannotChange::NotFound => (StatusCode::NOT_FOUND, error),
            CannotChange::Unsupported => (StatusCode::CONFLICT, error),
        })
    }
}

/// What somebody must know who wants to change things.
pub(super) struct Token {
    token: String,
}

const SCHEME: &[u8] = b"bearer ";
const SHORTEST: usize = 16;

impl Token {
    pub(super) fn new(token: String) -> Result<Self, InvalidPolicy> {
        let is_sendable = token.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if token.len() < SHORTEST || !is_sendable || token.trim() != token {
            // The value is a secret, even a bad one.
            let expected = "at least 16 bytes of visible ASCII, with spaces only within";
            return Err(InvalidPolicy::new("token", "..", expected));
        }
        Ok(Self { token })
    }

    /// Whether the value of the header `Authorization` carries it.
    pub(super) fn is_sent_in(&self, header: Option<&[u8]>) -> bool {
        let Some((scheme, sent)) = header.and_then(|header| header.split_at_checked(SCHEME.len()))
        else {
            return false;
        };
        scheme.eq_ignore_ascii_case(SCHEME) && is_same(self.token.as_bytes(), sent)
    }
}

/// Takes as long whether the first byte differs or the last; only the length of what was sent shows.
fn is_same(token: &[u8], sent: &[u8]) -> bool {
    let mut differs = u8::from(token.len() != sent.len());
    for (index, byte) in sent.iter().enumerate() {
        differs |= black_box(byte ^ token[index % token.len()]);
    }
    black_box(differs) == 0
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn a_token_that_can_be_guessed_or_not_be_sent_is_refused_and_not_repeated() {
        for bad in ["", "short", "0123456789abcde", "0123456789abcdeä", " 0123456789abcdef"] {
            let error = Token::new(bad.to_owned()).unwrap_err().to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
        Token::new(TOKEN.to_owned()).unwrap();
    }

    #[test]
    fn only_the_whole_token_counts_after_the_word_bearer() {
        let token = Token::new(TOKEN.to_owned()).unwrap();
        let is_sent = |header: &str| token.is_sent_in(Some(header.as_bytes()));
        assert!(is_sent("Bearer 0123456789abcdef") && is_sent("bearer 0123456789abcdef"));
        for header in [
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeF",
            "Bearer 1123456789abcdef",
            "Bearer 0123456789abcdef0123456789abcdef",
            "Bearer  0123456789abcdef",
        ] {
            assert!(!is_sent(header), "{header}");
        }
        assert!(!token.is_sent_in(None));
    }
}
