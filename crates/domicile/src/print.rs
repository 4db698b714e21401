//! What commands print for people and for programs. The only place that writes to standard output.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

/// Prints a line, or several. A reader that has gone away (`| head`) is no failure.
pub(crate) fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_ref().as_bytes()).and_then(|()| out.write_all(b"\n")));
}

/// Prints a line to standard error: progress and complaints, so that output can be piped.
pub(crate) fn note(text: impl AsRef<str>) {
    let mut out = std::io::stderr().lock();
    drop(out.write_all(text.as_ref().as_bytes()).and_then(|()| out.write_all(b"\n")));
}

/// Prints a value as JSON.
///
/// # Errors
/// When it cannot be written as JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// How an answer is meant, beside its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Nobody knows.
    Unsure,
}

/// A cell of a table, coloured on a terminal unless `NO_COLOR` is set. The words say the same as the colour.
pub(crate) fn toned(text: &str, tone: Tone) -> Cell {
    let colour = match tone {
        Tone::Good => Color::Green,
        Tone::Bad => Color::Red,
        Tone::Unsure => Color::Yellow,
    };
    if std::env::var_os("NO_COLOR").is_some() { Cell::new(text) } else { Cell::new(text).fg(colour) }
}

/// A table with a header, as wide as the terminal; plain columns when piped.
pub(crate) fn table<C: Into<Cell>>(header: &[&str], rows: impl IntoIterator<Item = Vec<C>>) -> String {
    let mut table = Table::new();
    if std::io::stdout().is_terminal() {
        table.load_preset(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(header.iter().map(|h| h.to_string()).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().filter(|_| !std::io::stdout().is_terminal()) {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}
