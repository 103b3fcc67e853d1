use std::{error::Error, fmt, path::PathBuf};

use super::{Resolution, ResolveError, Resolver};
use crate::EndpointInfo;

/// Reads endpoints from a text file, one on a line: its key, then, if wanted, its weight and its
/// zone. What follows a `#` is a remark.
///
/// ```text
/// # the shop's own machines
/// 10.0.0.7:443  10  a
/// 10.0.0.8:443  20  b
/// 10.0.0.9:443
/// ```
///
/// A [`Discovery`](crate::Discovery) looks at the file as often as it asks; a second is cheap. A
/// file that cannot be read or understood as a whole changes nothing. Replace the file by renaming
/// a new one over it: one that is written in place may be read half.
#[derive(Clone, Debug)]
pub struct FileResolver {
    path: PathBuf,
    name: String,
}

impl FileResolver {
    /// Reads the file at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.display().to_string();
        Self { path, name }
    }
}

impl Resolver for FileResolver {
    fn target(&self) -> &str {
        &self.name
    }

    async fn resolve(&self) -> Result<Resolution, ResolveError> {
        let text = tokio::fs::read_to_string(&self.path).await?;
        Ok(Resolution::from(parse(&text)?))
    }
}

/// A line of a file of endpoints that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedFile {
    line: usize,
    problem: &'static str,
}

impl MalformedFile {
    /// The line, counted from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for MalformedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl Error for MalformedFile {}

fn parse(text: &str) -> Result<Vec<EndpointInfo>, MalformedFile> {
    let mut endpoints: Vec<EndpointInfo> = Vec::new();
    let mut keys = std::collections::HashSet::new();
    for (line, text) in (1..).zip(text.lines()) {
        let malformed = |problem| MalformedFile { line, problem };
        let text = text.split_once('#').map_or(text, |(text, _)| text);
        let mut words = text.split_whitespace();
        let Some(key) = words.next() else { continue };
        let mut info = EndpointInfo::new(key);
        if let Some(weight) = words.next() {
            let weight = weight
                .parse()
                .map_err(|_| malformed("the second word must be a weight from 0 to 4294967295"))?;
            info = info.weight(weight);
        }
        if let Some(zone) = words.next() {
            info = info.zone(zone);
        }
        if words.next().is_some() {
            return Err(malformed("there are more words than key, weight and zone"));
        }
        if !keys.insert(key) {
            return Err(malformed("the same key stands on an earlier line"));
        }
        endpoints.push(info);
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_endpoints_and_remarks_are_not() {
        let text = "# all\n\n a:1 5 z # near\nb:2\r\nc:3 0\n";
        let expected = [
            EndpointInfo::new("a:1").weight(5).zone("z"),
            EndpointInfo::new("b:2"),
            EndpointInfo::new("c:3").weight(0),
        ];
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn a_malformed_line_is_named() {
        for (text, line) in
            [("a\nb x", 2), ("a -1", 1), ("a 1 z more", 1), ("a\nb\na", 3), ("a 4294967296", 1)]
        {
            assert_eq!(parse(text).unwrap_err().line(), line, "{text}");
        }
        assert!(parse("b x").unwrap_err().to_string().starts_with("line 1: the second word"));
    }
}
