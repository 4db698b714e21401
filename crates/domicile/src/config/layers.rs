//! The layers of a configuration: the file, then the environment over it. What comes out knows where
//! each key was written.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::mistake::{Gravity, Mistake, nearest};
use super::schema::{Kind, Node};

/// The variables that are read begin with this; the keys follow, separated by two underscores.
pub(crate) const VARIABLE_PREFIX: &str = "DOMICILE__";

/// Where a key was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A line of the file, counted from 1.
    Line(usize),
    /// An environment variable.
    Variable(String),
}

/// File and environment in one table.
#[derive(Debug, Default)]
pub(crate) struct Layered {
    /// The effective settings, not yet checked.
    pub table: toml::Table,
    /// Where each key was written.
    pub origins: BTreeMap<String, Origin>,
    /// What could not even be read.
    pub mistakes: Vec<Mistake>,
}

impl Layered {
    /// Reads a file's text and lays the variables over it.
    pub(crate) fn read(file: &Path, text: &str, variables: &BTreeMap<String, String>, schema: Node<'_>) -> Self {
        let mut layered = Self::default();
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let line = error.span().map(|span| line_of(text, span.start));
            layered.mistakes.push(Mistake {
                gravity: Gravity::Error,
                at: at_line(file, line),
                key: String::new(),
                message: format!("This is not TOML: {}.", error.message().trim_end_matches('.')),
                fix: "See https://toml.io; a text needs quotes, a key stands once.".into(),
            });
        }
        note_lines(table.get_ref(), text, "", &mut layered.origins);
        if errors.is_empty() {
            match toml::from_str(text) {
                Ok(table) => layered.table = table,
                Err(error) => layered.mistakes.push(Mistake {
                    gravity: Gravity::Error,
                    at: at_line(file, error.span().map(|span| line_of(text, span.start))),
                    key: String::new(),
                    message: format!("This is not TOML: {}.", error.message().trim_end_matches('.')),
                    fix: "See https://toml.io; a text needs quotes, a key stands once.".into(),
                }),
            }
        }
        for (variable, value) in variables.iter().filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)) {
            layered.lay_over(variable, value, schema);
        }
        layered
    }

    fn lay_over(&mut self, variable: &str, text: &str, schema: Node<'_>) {
        let segments: Vec<String> =
            variable[VARIABLE_PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
        if let Err((message, fix)) = set(&mut self.table, &segments, text, schema, "", variable, &mut self.origins) {
            let at = format!("environment variable {variable}");
            self.mistakes.push(Mistake { gravity: Gravity::Error, at, key: segments.join("."), message, fix });
        }
    }

    /// Where a key, or else the nearest table around it, was written.
    pub(crate) fn place_of(&self, file: &Path, key: &str) -> String {
        let mut key = key;
        loop {
            match self.origins.get(key) {
                Some(Origin::Line(line)) => return at_line(file, Some(*line)),
                Some(Origin::Variable(name)) => return format!("environment variable {name}"),
                None => match key.rfind(['.', '[']) {
                    Some(end) => key = &key[..end],
                    None => return at_line(file, None),
                },
            }
        }
    }
}

fn at_line(file: &Path, line: Option<usize>) -> String {
    match line {
        Some(line) => format!("{}:{line}", file.display()),
        None => file.display().to_string(),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

/// `a` and `b` as `a.b`.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn note_lines(table: &DeTable<'_>, text: &str, path: &str, origins: &mut BTreeMap<String, Origin>) {
    for (key, value) in table {
        let here = join(path, key.get_ref());
        origins.insert(here.clone(), Origin::Line(line_of(text, key.span().start)));
        match value.get_ref() {
            DeValue::Table(inner) => note_lines(inner, text, &here, origins),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let here = format!("{here}[{index}]");
                    origins.insert(here.clone(), Origin::Line(line_of(text, item.span().start)));
                    if let DeValue::Table(inner) = item.get_ref() {
                        note_lines(inner, text, &here, origins);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Sets one key from a variable's text, creating the tables on the way.
fn set(
    table: &mut toml::Table,
    segments: &[String],
    text: &str,
    schema: Node<'_>,
    path: &str,
    variable: &str,
    origins: &mut BTreeMap<String, Origin>,
) -> Result<(), (String, String)> {
    let Some((segment, rest)) = segments.split_first() else { return Ok(()) };
    let key = if schema.names_are_free() { free_name(table, segment) } else { segment.clone() };
    let Some(member) = schema.member(&key).filter(|_| !segment.is_empty()) else {
        let known = schema.keys();
        let fix = match nearest(segment, known.iter().copied()) {
            Some(near) => format!("Did you mean {}?", near.to_uppercase()),
            None => format!("Known here: {}.", known.join(", ").to_uppercase()),
        };
        return Err((format!("No setting is called {}.", segment.to_uppercase()), fix));
    };
    let here = join(path, &key);
    origins.insert(here.clone(), Origin::Variable(variable.to_owned()));
    match (rest, member.kind()) {
        ([], kind) => {
            table.insert(key, value_of(text, kind)?);
            Ok(())
        }
        (_, Kind::Table) => match table.entry(key).or_insert_with(|| Value::Table(toml::Table::new())) {
            Value::Table(inner) => set(inner, rest, text, member, &here, variable, origins),
            _ => Ok(()), // the file wrote something else here, which is reported as such
        },
        ([index, ..], Kind::List) => {
            let wrong = || {
                let message = format!("{} is a list; its items are counted from 0.", here.to_uppercase());
                (message, "Name an item that exists, or the next one.".to_owned())
            };
            let Value::Array(items) = table.entry(key).or_insert_with(|| Value::Array(vec![])) else { return Ok(()) };
            let (Ok(index), Some(item)) = (index.parse::<usize>(), member.item()) else { return Err(wrong()) };
            if index == items.len() && item.kind() == Kind::Table {
                items.push(Value::Table(toml::Table::new()));
            }
            let here = format!("{here}[{index}]");
            match items.get_mut(index) {
                Some(Value::Table(inner)) => set(inner, &rest[1..], text, item, &here, variable, origins),
                _ => Err(wrong()),
            }
        }
        _ => Err((format!("{} has no settings inside it.", here.to_uppercase()), "Drop what follows it.".into())),
    }
}

/// A free name from a variable: variables cannot hold hyphens, so `EU_CENTRAL` finds `eu-central`.
fn free_name(table: &toml::Table, segment: &str) -> String {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['-', '.'], "_");
    table.keys().find(|name| plain(name) == segment).cloned().unwrap_or_else(|| segment.replace('_', "-"))
}

/// A variable's text as the kind of value that belongs there.
fn value_of(text: &str, kind: Kind) -> Result<Value, (String, String)> {
    let wrong = |fix: &str| (format!("The variable must hold {}.", kind.in_words()), fix.to_owned());
    match kind {
        Kind::Text => Ok(Value::String(text.to_owned())),
        Kind::Integer => text.trim().parse().map(Value::Integer).map_err(|_| wrong("Write digits only.")),
        Kind::Number => text.trim().parse().map(Value::Float).map_err(|_| wrong("Write it like 0.05.")),
        Kind::Switch => text.trim().parse().map(Value::Boolean).map_err(|_| wrong("Write true or false.")),
        Kind::List if text.trim_start().starts_with('[') => inline(text).ok_or_else(|| wrong("Write a TOML list.")),
        Kind::List => Ok(Value::Array(
            text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(|t| Value::String(t.to_owned())).collect(),
        )),
        Kind::Table => {
            inline(text).ok_or_else(|| wrong("Set the keys inside it, or write an inline table: { key = \"value\" }."))
        }
    }
}

/// A TOML value on one line.
fn inline(text: &str) -> Option<Value> {
    toml::from_str::<toml::Table>(&format!("value = {text}")).ok()?.remove("value")
}
