//! What is wrong with a policy file, and where.

use std::{error::Error, fmt, sync::Arc};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::document::{Place, Source};

/// One thing that is wrong in a policy file, or worth a remark.
#[derive(Clone, Debug)]
pub struct Problem {
    source: Arc<Source>,
    range: std::ops::Range<usize>,
    line: usize,
    column: usize,
    field: String,
    message: String,
    help: Option<String>,
}

impl Problem {
    pub(crate) fn new(place: &Place, field: impl Into<String>, message: impl Into<String>) -> Self {
        let (line, column) = place.line_and_column();
        Self {
            source: Arc::clone(&place.source),
            range: place.range.clone(),
            line,
            column,
            field: field.into(),
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    /// The name of the file or source.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// The line, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The column, from 1, in characters.
    #[must_use]
    pub const fn column(&self) -> usize {
        self.column
    }

    /// The setting, as a path of names with dots; empty when the file cannot be read at all.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What is wrong with it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What was probably meant.
    #[must_use]
    pub fn suggestion(&self) -> Option<&str> {
        self.help.as_deref()
    }

    fn title(&self) -> String {
        if self.field.is_empty() {
            self.message.clone()
        } else {
            format!("`{}` {}", self.field, self.message)
        }
    }

    /// The problem with the lines of the file that it is about, for a terminal without colours.
    #[must_use]
    pub fn render(&self) -> String {
        // A whole table is best shown by its first line.
        let text = &self.source.text;
        let shown = text.get(self.range.clone()).unwrap_or_default();
        let first_line = shown.find('\n').unwrap_or(shown.len());
        let range = self.range.start..self.range.start + first_line;
        let title = self.title();
        let annotation = AnnotationKind::Primary.span(range);
        let snippet = Snippet::source(&**text).path(self.file()).annotation(annotation);
        let mut report = Level::ERROR.primary_title(title.as_str()).element(snippet);
        if let Some(help) = &self.help {
            report = report.element(Level::HELP.message(help.as_str()));
        }
        Renderer::plain().render(&[report])
    }
}

/// On one line: where, what, and what was probably meant.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file(), self.line, self.column, self.title())?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

/// Why a policy set was refused: everything that is wrong with it, in the order of the file.
#[derive(Clone, Debug)]
pub struct InvalidPolicies {
    problems: Vec<Problem>,
}

impl InvalidPolicies {
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        // What stands in the defaults is found wrong for each method that takes it over.
        problems.dedup_by_key(|p| (p.line, p.column, p.message.clone()));
        Self { problems }
    }

    /// What is wrong; at least one problem.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// All problems with the lines of the file that they are about.
    #[must_use]
    pub fn render(&self) -> String {
        self.problems.iter().map(|problem| problem.render() + "\n").collect()
    }
}

impl From<Problem> for InvalidPolicies {
    fn from(problem: Problem) -> Self {
        Self::new(vec![problem])
    }
}

impl fmt::Display for InvalidPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl Error for InvalidPolicies {}

/// The name among `known` that `name` was probably meant to be, and otherwise what there is.
pub(crate) fn nearest(name: &str, known: &[&str]) -> Option<String> {
    near(name, known).or_else(|| {
        let any = !known.is_empty();
        any.then(|| format!("there are: {}", known.join(", ")))
    })
}

/// The name among `known` that `name` was probably meant to be, if it is near one.
pub(crate) fn near(name: &str, known: &[&str]) -> Option<String> {
    let similarity = |other: &str| strsim::jaro_winkler(name, other);
    let best = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(best) > 0.75).then(|| format!("did you mean `{best}`?"))
}
