use std::{collections::HashMap, ops::Range, sync::Arc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{Entry, MAX_DEPTH, Node, Place, Source, Table, Value, place};
use crate::Problem;

pub(super) fn parse(source: &Arc<Source>) -> Result<Node, Problem> {
    // The parser counts in characters.
    let offsets = source.text.char_indices().map(|(at, _)| at).chain([source.text.len()]);
    let reader = Reader {
        source,
        offsets: offsets.collect(),
        events: Parser::new_from_str(&source.text),
        anchors: HashMap::new(),
        copied: 0,
    };
    reader.document()
}

/// How many values aliases may copy: enough for templates, too few for a bomb.
const MAX_COPIED: usize = 10_000;

struct Reader<'a> {
    source: &'a Arc<Source>,
    offsets: Vec<usize>,
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    copied: usize,
}

impl<'a> Reader<'a> {
    fn document(mut self) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    let here = self.place(span);
                    return Err(Problem::new(&here, "", "a policy file is one document"));
                }
                Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::Nothing => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        root.ok_or_else(|| Problem::new(&place(self.source, 0..0), "", "the file is empty"))
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.events.next() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.problem(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn problem(&self, error: &ScanError) -> Problem {
        let at = self.offset(*error.marker());
        Problem::new(&place(self.source, at..at), "", error.info())
    }

    fn offset(&self, marker: Marker) -> usize {
        self.offsets.get(marker.index()).copied().unwrap_or(self.source.text.len())
    }

    fn place(&self, span: Span) -> Place {
        let range: Range<usize> = self.offset(span.start)..self.offset(span.end);
        place(self.source, range)
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        let mut here = self.place(span);
        if depth > MAX_DEPTH {
            return Err(Problem::new(&here, "", "values nest too deeply"));
        }
        let (value, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, &here),
            Event::Scalar(text, style, anchor, _) => {
                (scalar(&text, style == ScalarStyle::Plain), anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        here.range.end = self.offset(span.end);
                        break (Value::List(items), anchor);
                    }
                    items.push(self.node(event, span, depth + 1)?);
                }
            }
            Event::MappingStart(anchor, _) => {
                let mut table = Table::default();
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::MappingEnd) {
                        here.range.end = self.offset(span.end);
                        break (Value::Table(table), anchor);
                    }
                    table.add(self.entry(event, span, depth)?)?;
                }
            }
            _ => return Err(Problem::new(&here, "", "a value was expected")),
        };
        let node = Node::new(value, here);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn entry(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Entry, Problem> {
        let key_place = self.place(span);
        let Event::Scalar(key, ..) = event else {
            return Err(Problem::new(&key_place, "", "a key must be a name"));
        };
        let (event, span) = self.next()?;
        Ok(Entry { key: key.into_owned(), key_place, value: self.node(event, span, depth + 1)? })
    }

    fn alias(&mut self, anchor: usize, here: &Place) -> Result<Node, Problem> {
        let node = self.anchors.get(&anchor).cloned();
        let node = node.ok_or_else(|| Problem::new(here, "", "nothing bears this anchor"))?;
        self.copied += size(&node);
        if self.copied > MAX_COPIED {
            return Err(Problem::new(here, "", "aliases copy more than 10000 values"));
        }
        Ok(node)
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Table(table) => 1 + table.entries.iter().map(|e| size(&e.value)).sum::<usize>(),
        _ => 1,
    }
}

/// YAML 1.2's core schema: only these words and numbers are other than text.
fn scalar(text: &str, is_plain: bool) -> Value {
    if !is_plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        _ => number(text).unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    // Rust's own parser also takes words, which are text in YAML.
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return None;
    }
    let integer = text.parse().map(Value::Integer).ok();
    let float = || text.parse().ok().filter(|n: &f64| n.is_finite()).map(Value::Float);
    integer.or_else(float)
}
