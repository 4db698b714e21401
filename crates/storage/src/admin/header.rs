//! The first lines of a migration: whether it only adds, which level the schema has after it, and, where it takes
//! something away, how old a program may be that goes on without it.
//!
//! ```sql
//! -- domicile:phase expand
//! -- domicile:level 9
//! ```

/// Whether a file may run while the release before it still serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It only adds.
    Expand,
    /// It takes something away, once nobody uses it any more.
    Contract,
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) phase: Phase,
    /// The schema's level after the file: its own number.
    pub(super) level: i64,
    /// The level of the oldest program that can use the schema after it; 0 where every one can.
    pub(super) floor: i64,
}

/// Whether a file asks to run outside a transaction, by a line `-- no-transaction` among its first comments: what
/// `CREATE INDEX CONCURRENTLY` needs.
pub(super) fn without_transaction(sql: &str) -> bool {
    sql.lines().take_while(|line| line.starts_with("--")).any(|line| line == "-- no-transaction")
}

/// Reads the header; the error is a sentence that says how to write it.
pub(super) fn read(sql: &str) -> Result<Header, &'static str> {
    let mut lines = sql.lines();
    let phase = match lines.next() {
        Some("-- domicile:phase expand") => Phase::Expand,
        Some("-- domicile:phase contract") => Phase::Contract,
        _ => return Err("its first line must be `-- domicile:phase expand` or `-- domicile:phase contract`"),
    };
    let number = |line: Option<&str>, key: &str| line.and_then(|line| line.strip_prefix(key))?.parse().ok();
    let Some(level) = number(lines.next(), "-- domicile:level ") else {
        return Err("its second line must be `-- domicile:level N`, with its own number");
    };
    let floor = match phase {
        Phase::Expand => 0,
        Phase::Contract => match number(lines.next(), "-- domicile:floor ") {
            Some(floor) if 0 < floor && floor <= level => floor,
            _ => {
                return Err("its third line must be `-- domicile:floor N`: the level of the oldest program that can \
                            do without what it takes away");
            }
        },
    };
    Ok(Header { phase, level, floor })
}
