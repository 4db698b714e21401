//! Rows on their way in, as one JSON literal, and on their way out, as text.

use residency::Region;

use crate::change::Row;
use crate::error::Error;
use crate::snowflake::literal::literal;

/// A row of [`Tables::rows`](super::Tables::rows).
pub(in crate::snowflake) fn row(cells: Vec<Option<String>>) -> Result<Row, Error> {
    let [
        Some(subject_digest),
        Some(attribute),
        value,
        consents,
        Some(version),
        Some(seq),
        Some(region),
        Some(deleted),
        Some(at_us),
    ] = <[Option<String>; 9]>::try_from(cells).map_err(|_| Error::Answer("a row has another number of columns"))?
    else {
        return Err(Error::Answer("a column that is never empty is"));
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| Error::Answer("a number is none"));
    let deleted = deleted.eq_ignore_ascii_case("true");
    Ok(Row {
        subject_digest,
        attribute,
        value,
        consents,
        version: number(&version)?,
        seq: number(&seq)?,
        region: Region::new(&region).map_err(|_| Error::Answer("a region is none"))?,
        deleted,
        at_us: at_us.parse().map_err(|_| Error::Answer("a number is none"))?,
    })
}

/// The rows as one JSON array with short names: d(igest), a(ttribute), v(alue), c(onsents), n(umber of the
/// version), s(equence), t(ime of the change), x (deleted). A tombstone has no v and no c, which become SQL NULL.
pub(super) fn json(rows: &[Row]) -> String {
    let mut text = String::from("[");
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_row(&mut text, row);
    }
    text.push(']');
    text
}

fn push_row(text: &mut String, row: &Row) {
    use std::fmt::Write as _;
    // A string is valid JSON after serde_json has written it; values and consents are JSON already.
    let quoted = |plain: &str| serde_json::Value::from(plain).to_string();
    let (digest, attribute) = (quoted(&row.subject_digest), quoted(&row.attribute));
    let _ = write!(
        text,
        "{{\"d\":{digest},\"a\":{attribute},\"n\":{},\"s\":{},\"t\":{},\"x\":{}",
        row.version, row.seq, row.at_us, row.deleted
    );
    if let Some(value) = &row.value {
        let _ = write!(text, ",\"v\":{value}");
    }
    if let Some(consents) = &row.consents {
        let _ = write!(text, ",\"c\":{consents}");
    }
    text.push('}');
}

/// The bytes that a row takes in a statement.
pub(in crate::snowflake) fn literal_bytes(row: &Row) -> usize {
    let mut text = String::new();
    push_row(&mut text, row);
    literal(&text).len()
}
