//! Compares a table with the schema: unknown keys, wrong types, numbers out of range. Every mistake is
//! noted and the offending key dropped, so that what is left can be read and checked for its meaning.

use std::path::Path;

use toml::Value;

use super::layers::{Layered, join};
use super::mistake::{Gravity, Mistake, nearest};
use super::schema::{Kind, Node};

/// Notes every mistake of shape and returns the table without them.
pub(crate) fn prune(layered: &Layered, file: &Path, schema: Node<'_>, mistakes: &mut Vec<Mistake>) -> toml::Table {
    let mut shape = Shape { layered, file, mistakes };
    shape.table(layered.table.clone(), schema, "")
}

struct Shape<'a> {
    layered: &'a Layered,
    file: &'a Path,
    mistakes: &'a mut Vec<Mistake>,
}

impl Shape<'_> {
    fn table(&mut self, table: toml::Table, schema: Node<'_>, path: &str) -> toml::Table {
        let mut kept = toml::Table::new();
        for (key, value) in table {
            let here = join(path, &key);
            match schema.member(&key) {
                Some(member) => {
                    if let Some(value) = self.value(value, member, &here) {
                        kept.insert(key, value);
                    }
                }
                None => self.unknown(&key, schema, path, &here),
            }
        }
        kept
    }

    fn value(&mut self, value: Value, schema: Node<'_>, here: &str) -> Option<Value> {
        match (value, schema.kind()) {
            (Value::Table(table), Kind::Table) => Some(Value::Table(self.table(table, schema, here))),
            (Value::Array(items), Kind::List) => {
                let item = schema.item()?;
                let items = items.into_iter().enumerate();
                Some(Value::Array(items.filter_map(|(i, v)| self.value(v, item, &format!("{here}[{i}]"))).collect()))
            }
            (Value::Integer(number), Kind::Number) => self.value(Value::Float(number as f64), schema, here),
            (value @ (Value::Integer(_) | Value::Float(_)), Kind::Integer | Kind::Number)
                if !(value.is_float() && schema.kind() == Kind::Integer) =>
            {
                self.number(value, schema, here)
            }
            (Value::String(word), Kind::Text) => self.word(word, schema, here),
            (value @ Value::Boolean(_), Kind::Switch) => Some(value),
            (value, kind) => {
                let message = format!("This must be {}, but {} is written.", kind.in_words(), in_words(&value));
                self.note(here, message, example(kind));
                None
            }
        }
    }

    fn number(&mut self, value: Value, schema: Node<'_>, here: &str) -> Option<Value> {
        let number = value.as_float().or_else(|| value.as_integer().map(|n| n as f64))?;
        let (min, max) = schema.range();
        let (low, high) = (min.is_some_and(|min| number < min), max.is_some_and(|max| number > max));
        if !low && !high && number.is_finite() {
            return Some(value);
        }
        let fix = match (min, max) {
            (Some(min), Some(max)) => format!("Write a number from {min} to {max}."),
            (Some(min), None) => format!("Write a number of at least {min}."),
            (None, Some(max)) => format!("Write a number of at most {max}."),
            (None, None) => "Write a finite number.".into(),
        };
        self.note(here, format!("{number} is too {}.", if low { "small" } else { "large" }), fix);
        None
    }

    fn word(&mut self, word: String, schema: Node<'_>, here: &str) -> Option<Value> {
        let words = schema.words();
        if words.is_empty() || words.contains(&word.as_str()) {
            return Some(Value::String(word));
        }
        let listed = words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ");
        let fix = match nearest(&word, words.iter().copied()) {
            Some(near) => format!("Did you mean \"{near}\"? Accepted: {listed}."),
            None => format!("Write one of {listed}."),
        };
        self.note(here, "This is none of the accepted words.".into(), fix);
        None
    }

    fn unknown(&mut self, key: &str, schema: Node<'_>, path: &str, here: &str) {
        let known = schema.keys();
        let table = if path.is_empty() { "the file".to_owned() } else { format!("[{path}]") };
        let fix = match nearest(key, known.iter().copied()) {
            Some(near) => format!("Did you mean `{near}`?"),
            None => format!("Remove it; {table} knows {}.", known.join(", ")),
        };
        self.note(here, format!("{} does not know a key of this name.", capital(&table)), fix);
    }

    fn note(&mut self, key: &str, message: String, fix: String) {
        let at = self.layered.place_of(self.file, key);
        self.mistakes.push(Mistake { gravity: Gravity::Error, at, key: key.to_owned(), message, fix });
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn in_words(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a point",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn example(kind: Kind) -> String {
    match kind {
        Kind::Text => "Put it in quotes: \"…\".",
        Kind::Integer => "Write digits without quotes, in the unit that the key's name ends with.",
        Kind::Number => "Write a number without quotes, e.g. 0.05.",
        Kind::Switch => "Write true or false, without quotes.",
        Kind::List => "Write it in brackets: [\"…\", \"…\"].",
        Kind::Table => "Write a table of its own.",
    }
    .into()
}
