//! Reading one table of the policy file key by key, so that every mistake is found in one reading:
//! serde would stop at the first. A key that nobody asked for is a mistake too.

use toml::{Table, Value};

use super::{Problem, SENTENCE_BYTES_MAX};
use crate::words::Malformed;

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, key: impl Into<String>, message: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Problem { key: key.into(), message: message.into(), fix: fix.into() });
    }
}

/// One table of the file, taken apart key by key. [`Fields::finish`] reports what was left over.
#[derive(Debug)]
pub(super) struct Fields {
    key: String,
    table: Table,
    asked: Vec<&'static str>,
}

impl Fields {
    /// `key` is the table's own place in the file; empty for the whole file.
    pub(super) fn new(key: impl Into<String>, table: Table) -> Self {
        Self { key: key.into(), table, asked: Vec::new() }
    }

    /// The full key of one of its fields.
    pub(super) fn key_of(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }

    /// Whether a field is there, of whatever type.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.asked.push(name);
        self.table.remove(name)
    }

    fn take_as<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        problems: &mut Problems,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Option<T> {
        match read(self.take(name)?) {
            Ok(value) => Some(value),
            Err(found) => {
                problems.add(
                    self.key_of(name),
                    format!("This is {}, not {wanted}.", kind_of(&found)),
                    format!("Write {wanted}."),
                );
                None
            }
        }
    }

    /// A text, if it is there.
    pub(super) fn text(&mut self, name: &'static str, problems: &mut Problems) -> Option<String> {
        self.take_as(name, "a text in quotes", problems, |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    /// A sentence of bounded length, if it is there.
    pub(super) fn sentence(&mut self, name: &'static str, problems: &mut Problems) -> Option<String> {
        let text = self.text(name, problems)?;
        let text = text.trim();
        if text.is_empty() || text.len() > SENTENCE_BYTES_MAX || text.chars().any(char::is_control) {
            problems.add(
                self.key_of(name),
                format!("A sentence has 1 to {SENTENCE_BYTES_MAX} bytes on one line."),
                "Write one that a reader will understand.",
            );
            return None;
        }
        Some(text.to_owned())
    }

    /// Like [`Fields::sentence`], and a mistake if it is absent.
    pub(super) fn required_sentence(&mut self, name: &'static str, problems: &mut Problems) -> Option<String> {
        if !self.table.contains_key(name) {
            self.asked.push(name);
            problems.add(self.key_of(name), "This key is missing.", format!("Add `{name} = \"…\"`."));
            return None;
        }
        self.sentence(name, problems)
    }

    /// One of our words, if it is there.
    pub(super) fn word<T>(
        &mut self,
        name: &'static str,
        make: impl FnOnce(&str) -> Result<T, Malformed>,
        problems: &mut Problems,
    ) -> Option<T> {
        let text = self.text(name, problems)?;
        word(&self.key_of(name), &text, make, problems)
    }

    /// Like [`Fields::word`], and a mistake if it is absent.
    pub(super) fn required_word<T>(
        &mut self,
        name: &'static str,
        make: impl FnOnce(&str) -> Result<T, Malformed>,
        problems: &mut Problems,
    ) -> Option<T> {
        if !self.table.contains_key(name) {
            self.asked.push(name);
            problems.add(self.key_of(name), "This key is missing.", format!("Add `{name} = \"…\"`."));
            return None;
        }
        self.word(name, make, problems)
    }

    /// A whole number from 0 to 1,000; a mistake if it is absent.
    pub(super) fn required_degree(&mut self, name: &'static str, problems: &mut Problems) -> Option<u16> {
        if !self.table.contains_key(name) {
            self.asked.push(name);
            problems.add(self.key_of(name), "This key is missing.", format!("Add `{name} = 0` to 1000."));
            return None;
        }
        self.take_as(name, "a degree from 0 to 1000", problems, |value| {
            value.as_integer().and_then(|n| u16::try_from(n).ok()).filter(|n| *n <= 1_000).ok_or(value)
        })
    }

    /// A list of texts, each with its own key; empty if it is absent.
    pub(super) fn texts(&mut self, name: &'static str, problems: &mut Problems) -> Vec<(String, String)> {
        let key = self.key_of(name);
        let Some(items) = self.take_as(name, "a list of texts in quotes", problems, |value| match value {
            Value::Array(items) => Ok(items),
            other => Err(other),
        }) else {
            return Vec::new();
        };
        texts(&key, items, problems)
    }

    /// A table within, if it is there.
    pub(super) fn table(&mut self, name: &'static str, problems: &mut Problems) -> Option<Table> {
        self.take_as(name, "a table", problems, |value| match value {
            Value::Table(table) => Ok(table),
            other => Err(other),
        })
    }

    /// A list of tables, each with its own key; empty if it is absent.
    pub(super) fn tables(&mut self, name: &'static str, problems: &mut Problems) -> Vec<Self> {
        let key = self.key_of(name);
        let items = self.take_as(name, "a list of tables", problems, |value| match value {
            Value::Array(items) => Ok(items),
            other => Err(other),
        });
        let mut tables = Vec::new();
        for (at, item) in items.into_iter().flatten().enumerate() {
            let key = format!("{key}[{}]", at + 1);
            match item {
                Value::Table(table) => tables.push(Self::new(key, table)),
                other => problems.add(key, format!("This is {}, not a table.", kind_of(&other)), "Write a table."),
            }
        }
        tables
    }

    /// Puts the item's own name into its key, so that a reader finds it: `rule[3] (eea)`.
    pub(super) fn call_it(&mut self, name: &str) {
        self.key = format!("{} ({name})", self.key);
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self, problems: &mut Problems) {
        for name in self.table.keys() {
            problems.add(
                self.key_of(name),
                "Nobody knows this key.",
                format!("Remove it, or use one of: {}.", self.asked.join(", ")),
            );
        }
    }
}

/// What a value is, as a reader would say it.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// Reads one of our words, or reports the rule it breaks.
pub(super) fn word<T>(
    key: &str,
    text: &str,
    make: impl FnOnce(&str) -> Result<T, Malformed>,
    problems: &mut Problems,
) -> Option<T> {
    match make(text) {
        Ok(word) => Some(word),
        Err(malformed) => {
            problems.add(key, format!("`{text}` does not do: {malformed}."), "Correct it.");
            None
        }
    }
}

/// Reads a list of texts, each with its own key.
pub(super) fn texts(key: &str, items: Vec<Value>, problems: &mut Problems) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        let key = format!("{key}[{}]", at + 1);
        match item {
            Value::String(text) => texts.push((key, text)),
            other => problems.add(key, format!("This is {}, not a text.", kind_of(&other)), "Put it in quotes."),
        }
    }
    texts
}

/// Reports a name that the policy does not have.
pub(super) fn unknown<'a, T: std::fmt::Display + 'a>(
    key: String,
    what: &str,
    named: &str,
    known: impl Iterator<Item = &'a T>,
    problems: &mut Problems,
) {
    let known: Vec<String> = known.map(ToString::to_string).collect();
    problems.add(key, format!("The policy has no {what} `{named}`."), format!("Use one of: {}.", known.join(", ")));
}
