//! Reads a tree into a type, and says where in the file it could not.

use std::{cell::RefCell, fmt};

use serde::{
    Deserialize,
    de::{
        DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
        Unexpected, VariantAccess, Visitor,
    },
};

use super::{Node, Table, Value};
use crate::{
    Problem,
    problem::{near, nearest},
};

/// Reads `node`, which is called `field` in messages.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(node: &Node, field: &str) -> Result<T, Problem> {
    let trail = RefCell::new(Vec::new());
    T::deserialize(Reading { node, trail: &trail }).map_err(|trouble| {
        let path = trouble.path.unwrap_or_else(|| trail.into_inner());
        locate(node, field, &path, trouble.kind)
    })
}

/// What is wrong, and of which field below the root.
#[derive(Debug)]
struct Trouble {
    kind: Kind,
    path: Option<Vec<String>>,
}

#[derive(Debug)]
enum Kind {
    /// A message that says it all, or [`InvalidPolicy`](outrigger_core::InvalidPolicy)'s.
    Said(String),
    Unknown {
        name: String,
        known: &'static [&'static str],
    },
    Missing(&'static str),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for Trouble {}

impl Error for Trouble {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { kind: Kind::Said(message.to_string()), path: None }
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self { kind: Kind::Unknown { name: name.to_owned(), known }, path: None }
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        Self::unknown_field(name, known)
    }

    fn missing_field(name: &'static str) -> Self {
        Self { kind: Kind::Missing(name), path: None }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::custom(format_args!("is {}; it must be {}", Found(found), in_words(expected)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }
}

/// What serde expects, without the names of types.
fn in_words(expected: &dyn serde::de::Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u8" | "u16" | "u64" | "usize" => "a whole number, not negative".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a duration" => "a duration with its unit, such as `250ms` or `5s`".to_owned(),
        name if name.starts_with("struct ") => "a table of settings".to_owned(),
        _ => expected,
    }
}

struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Str(text) => write!(f, "{text:?}"),
            Unexpected::Unsigned(n) => n.fmt(f),
            Unexpected::Signed(n) => n.fmt(f),
            Unexpected::Float(n) => write!(f, "{n:?}"),
            Unexpected::Bool(yes) => yes.fmt(f),
            Unexpected::Unit => f.write_str("null"),
            Unexpected::Map => f.write_str("a table"),
            Unexpected::Seq => f.write_str("a list"),
            other => other.fmt(f),
        }
    }
}

/// Finds the node that `path` and the message name, and words the problem.
fn locate(root: &Node, field: &str, path: &[String], kind: Kind) -> Problem {
    let join = |names: &[String]| {
        let names = as_stated(root, names);
        [field]
            .into_iter()
            .chain(names)
            .filter(|name| !name.is_empty())
            .collect::<Vec<_>>()
            .join(".")
    };
    let here = walk(root, path.iter().map(String::as_str));
    match kind {
        Kind::Unknown { name, known } => {
            if let Some(entry) = here.as_table().and_then(|table| table.entry(&name)) {
                let field = join(&[path, std::slice::from_ref(&name)].concat());
                let problem = Problem::new(&entry.key_place, field, "is no setting here");
                return problem.help(nearest(&name, known));
            }
            let choices = known.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>();
            let message = format!("is {name:?}; it must be one of {}", choices.join(", "));
            Problem::new(&here.place, join(path), message).help(near(&name, known))
        }
        Kind::Missing(name) => {
            let missing = join(&[path, &[name.to_owned()]].concat());
            Problem::new(&here.place, missing, "is missing")
        }
        Kind::Said(message) => match message.strip_prefix('`').and_then(|m| m.split_once("` ")) {
            // A policy's own check names the field below the policy.
            Some((named, said)) => {
                let fields: Vec<String> = named.split('.').map(str::to_owned).collect();
                let node = walk(root, fields.iter().map(String::as_str));
                let written = find(root, &fields).map(|node| as_written(node, said));
                let said = written.unwrap_or_else(|| said.to_owned());
                Problem::new(&node.place, join(&fields), said)
            }
            None => Problem::new(&here.place, join(path), message),
        },
    }
}

/// What a policy says of a value, with the value as it stands in the file: `"5s"`, not `5s`.
fn as_written(node: &Node, said: &str) -> String {
    match said.split_once("; it must be ") {
        Some((_, expected)) if !matches!(node.value, Value::Table(_) | Value::List(_)) => {
            format!("is {node}; it must be {expected}")
        }
        _ => said.to_owned(),
    }
}

/// The names as far as they were written: in a short form, the table was not.
fn as_stated<'a>(root: &Node, names: &'a [String]) -> Vec<&'a str> {
    let mut here = Some(root);
    let mut stated = Vec::with_capacity(names.len());
    for name in names {
        let below = here.and_then(Node::as_table).and_then(|table| table.get(name));
        let is_short = |below: &Node| here.is_some_and(|h| h.place.range == below.place.range);
        if !below.is_some_and(is_short) {
            stated.push(name.as_str());
        }
        here = below;
    }
    stated
}

/// The node that the names lead to, if they do.
fn find<'a>(root: &'a Node, names: &[String]) -> Option<&'a Node> {
    names.iter().try_fold(root, |node, name| node.as_table()?.get(name))
}

/// The deepest node that the names lead to.
fn walk<'a>(root: &'a Node, names: impl Iterator<Item = &'a str>) -> &'a Node {
    let mut here = root;
    for name in names {
        let next = match &here.value {
            Value::Table(table) => table.get(name),
            Value::List(items) => name.parse().ok().and_then(|i: usize| items.get(i)),
            _ => None,
        };
        let Some(next) = next else { break };
        here = next;
    }
    here
}

#[derive(Clone, Copy)]
struct Reading<'a> {
    node: &'a Node,
    trail: &'a RefCell<Vec<String>>,
}

impl<'a> Reading<'a> {
    /// For a node that nobody wrote, which does not live as long.
    const fn alone<'b>(self) -> Reading<'b>
    where
        'a: 'b,
    {
        Reading { node: self.node, trail: self.trail }
    }

    /// Reads what is below under `name`. Where that fails, the trail stays as it is.
    fn below<T>(
        self,
        name: &str,
        node: &'a Node,
        read: impl FnOnce(Reading<'a>) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        self.trail.borrow_mut().push(name.to_owned());
        let result = read(Reading { node, trail: self.trail }).map_err(|mut trouble| {
            trouble.path.get_or_insert_with(|| self.trail.borrow().clone());
            trouble
        });
        self.trail.borrow_mut().pop();
        result
    }
}

/// `1.5s` as the protobuf JSON of durations writes it, in the words of humantime.
fn without_fraction(text: &str) -> Option<String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let (whole, fraction) = number.split_once('.')?;
    let nanos: u32 = match unit {
        "s" => 9,
        "ms" => 6,
        "us" => 3,
        _ => return None,
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let per_unit = 10_u64.pow(nanos);
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()? };
    let part = u128::from(fraction) * u128::from(per_unit) / u128::from(scale);
    let whole: u64 = whole.parse().ok()?;
    let part = u64::try_from(part).ok()?;
    Some(format!("{}ns", whole.checked_mul(per_unit)?.checked_add(part)?))
}

impl<'de> Deserializer<'de> for Reading<'_> {
    type Error = Trouble;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(yes) => visitor.visit_bool(*yes),
            Value::Integer(n) => match u64::try_from(*n) {
                Ok(n) => visitor.visit_u64(n),
                Err(_) => visitor.visit_i64(*n),
            },
            Value::Float(n) => visitor.visit_f64(*n),
            Value::String(text) => visitor.visit_str(text),
            Value::List(items) => visitor.visit_seq(Items { reading: self, nodes: items, next: 0 }),
            Value::Table(table) => visitor.visit_map(Entries { reading: self, table, next: 0 }),
        }
    }

    /// Borrowed text is asked for where a duration stands; a name is asked for as `String`.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        match self.node.as_str().and_then(without_fraction) {
            Some(text) => visitor.visit_str(&text),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        match &self.node.value {
            Value::String(text) => {
                visitor.visit_enum(Choice { reading: self, name: text, body: None })
            }
            Value::Table(table) if table.entries.len() == 1 => {
                let entry = &table.entries[0];
                let body = Some(&entry.value);
                visitor.visit_enum(Choice { reading: self, name: &entry.key, body })
            }
            _ => {
                let expected = "a name, or a table with a single key";
                Err(Trouble::custom(format_args!("is {}; it must be {expected}", self.node)))
            }
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'a> {
    reading: Reading<'a>,
    nodes: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Trouble;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Trouble> {
        let Some(item) = self.nodes.get(self.next) else { return Ok(None) };
        let name = self.next.to_string();
        self.next += 1;
        self.reading.below(&name, item, |reading| seed.deserialize(reading)).map(Some)
    }
}

struct Entries<'a> {
    reading: Reading<'a>,
    table: &'a Table,
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Trouble;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Trouble> {
        let Some(entry) = self.table.entries.get(self.next) else { return Ok(None) };
        let trail = self.reading.trail;
        seed.deserialize(entry.key.as_str().into_deserializer())
            .map_err(|mut trouble: Trouble| {
                trouble.path.get_or_insert_with(|| trail.borrow().clone());
                trouble
            })
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Trouble> {
        let entry = &self.table.entries[self.next];
        self.next += 1;
        self.reading.below(&entry.key, &entry.value, |reading| seed.deserialize(reading))
    }
}

struct Choice<'a> {
    reading: Reading<'a>,
    name: &'a str,
    body: Option<&'a Node>,
}

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = Trouble;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Trouble> {
        let variant = seed.deserialize(self.name.into_deserializer());
        let trail = self.reading.trail;
        variant
            .map_err(|mut trouble: Trouble| {
                trouble.path.get_or_insert_with(|| trail.borrow().clone());
                trouble
            })
            .map(|variant| (variant, self))
    }
}

/// What stands for the content of a variant that is only named.
fn nothing(node: &Node) -> Node {
    Node::new(Value::Table(Table::default()), node.place.clone())
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Trouble;

    fn unit_variant(self) -> Result<(), Trouble> {
        match self.body {
            None => Ok(()),
            Some(node) if node.as_table().is_some_and(|table| table.entries.is_empty()) => Ok(()),
            Some(node) => {
                Err(Trouble::custom(format_args!("holds {node}; `{}` holds nothing", self.name)))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Trouble> {
        if let Some(node) = self.body {
            return self.reading.below(self.name, node, |reading| seed.deserialize(reading));
        }
        let nothing = nothing(self.reading.node);
        self.reading.alone().below(self.name, &nothing, |reading| seed.deserialize(reading))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Trouble> {
        match self.body {
            Some(node) => {
                self.reading.below(self.name, node, |reading| reading.deserialize_any(visitor))
            }
            None => Err(Trouble::custom("is only named; it needs values")),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        if let Some(node) = self.body {
            let read = |reading: Reading<'_>| reading.deserialize_any(visitor);
            return self.reading.below(self.name, node, read);
        }
        let nothing = nothing(self.reading.node);
        self.reading.alone().below(self.name, &nothing, |reading| reading.deserialize_any(visitor))
    }
}
