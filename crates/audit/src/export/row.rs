//! A leaf of any kind as a row of columns. What a leaf does not say is empty; a line that cannot be read is a row, too,
//! with nothing in it but the line.

use serde::Deserialize;
use serde_json::value::RawValue;
use sheet::{Column, Type};
use storage::DecisionRow;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The columns of CSV and Parquet, in their order.
pub(super) const COLUMNS: [Column; 28] = [
    Column::required("seq", Type::Number),
    Column::required("leaf_hash", Type::Text),
    Column::optional("ts", Type::Time),
    Column::optional("kind", Type::Text),
    Column::optional("id", Type::Text),
    Column::optional("gateway", Type::Text),
    Column::optional("gateway_seq", Type::Number),
    Column::optional("actor", Type::Text),
    Column::optional("operation", Type::Text),
    Column::optional("resource", Type::Text),
    Column::optional("outcome", Type::Text),
    Column::optional("why", Type::Text),
    Column::optional("home", Type::Text),
    Column::optional("via", Type::Text),
    Column::optional("dst", Type::Text),
    Column::optional("subject_tag", Type::Text),
    Column::optional("policy_sha256", Type::Text),
    Column::optional("rule", Type::Text),
    Column::optional("evidence", Type::Text),
    Column::optional("rows", Type::Number),
    Column::optional("bytes", Type::Number),
    Column::optional("transfer_id", Type::Text),
    Column::optional("transfer_from", Type::Text),
    Column::optional("transfer_to", Type::Text),
    Column::optional("transfer_basis", Type::Text),
    Column::optional("transfer_instrument", Type::Text),
    Column::optional("transfer", Type::Text),
    Column::required("line", Type::Text),
];

/// One cell of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(Option<String>),
    Number(Option<i64>),
    /// A time as the leaf writes it, and in microseconds since 1970-01-01 UTC.
    Time(Option<(String, i64)>),
}

/// A leaf's cells, one for each of [`COLUMNS`].
pub(super) struct Row(pub(super) Vec<Value>);

impl Row {
    pub(super) fn of(row: &DecisionRow) -> Self {
        let said: Said = serde_json::from_str(&row.line).unwrap_or_default();
        let transfer: Transfer =
            said.xf.as_ref().and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let (policy, rule) = match said.pol {
            None => (None, None),
            Some(Pol::Decided(policy, rule)) => (Some(policy), Some(rule)),
            Some(Pol::InForce(policy)) => (Some(policy), None),
        };
        let raw = |raw: Option<Box<RawValue>>| Value::Text(raw.map(|raw| raw.get().to_owned()));
        Self(vec![
            number(Some(row.seq)),
            Value::Text(Some(hex::encode(row.leaf_hash))),
            Value::Time(said.ts.and_then(|ts| micros(&ts).map(|at_us| (ts, at_us)))),
            Value::Text(said.k),
            Value::Text(said.id),
            Value::Text(said.gw),
            number(said.gseq),
            Value::Text(said.act),
            Value::Text(said.op),
            Value::Text(said.res),
            Value::Text(said.out),
            Value::Text(said.why),
            Value::Text(said.home),
            Value::Text(said.via),
            Value::Text(said.dst),
            Value::Text(said.sub),
            Value::Text(policy),
            Value::Text(rule),
            raw(said.ev),
            number(said.rows),
            number(said.bytes),
            Value::Text(transfer.id),
            Value::Text(transfer.from),
            Value::Text(transfer.to),
            Value::Text(transfer.basis),
            Value::Text(transfer.inst),
            raw(said.xf),
            Value::Text(Some(row.line.clone())),
        ])
    }
}

/// The kind that a line says it is of.
pub(super) fn kind(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Kind {
        k: String,
    }
    serde_json::from_str::<Kind>(line).ok().map(|kind| kind.k)
}

/// What leaves of any kind may say.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    act: Option<String>,
    bytes: Option<u64>,
    dst: Option<String>,
    ev: Option<Box<RawValue>>,
    gseq: Option<u64>,
    gw: Option<String>,
    home: Option<String>,
    id: Option<String>,
    k: Option<String>,
    op: Option<String>,
    out: Option<String>,
    pol: Option<Pol>,
    res: Option<String>,
    rows: Option<u64>,
    sub: Option<String>,
    ts: Option<String>,
    via: Option<String>,
    why: Option<String>,
    xf: Option<Box<RawValue>>,
}

/// The policy that decided, with its rule; or, in a leaf about no decision, the one in force.
#[derive(Deserialize)]
#[serde(untagged)]
enum Pol {
    Decided(String, String),
    InForce(String),
}

/// What crossed a border.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Transfer {
    basis: Option<String>,
    from: Option<String>,
    id: Option<String>,
    inst: Option<String>,
    to: Option<String>,
}

/// Leaves hold integers below 2^53.
fn number(number: Option<u64>) -> Value {
    Value::Number(number.and_then(|number| i64::try_from(number).ok()))
}

fn micros(ts: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(ts, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(line: &str, name: &str) -> Value {
        let row = Row::of(&DecisionRow { seq: 7, leaf_hash: [1; 32], line: line.to_owned() });
        row.0[COLUMNS.iter().position(|column| column.name == name).expect("a column")].clone()
    }

    #[test]
    fn a_fact_and_a_decision_fill_their_columns_and_what_is_no_leaf_is_a_row_all_the_same() {
        let text = |said: &str| Value::Text(Some(said.to_owned()));
        let fact =
            r#"{"gseq":1,"gw":"g/0000000a","k":"gateway.start","pol":"ab","ts":"2026-11-22T20:42:36.000042Z","v":1}"#;
        assert_eq!((cell(fact, "kind"), cell(fact, "policy_sha256")), (text("gateway.start"), text("ab")));
        let decision = crate::explain::tests::LINE;
        assert_eq!((cell(decision, "rule"), cell(decision, "bytes")), (text("existing-pin"), Value::Number(Some(96))));
        assert_eq!((cell("junk", "kind"), cell("junk", "line")), (Value::Text(None), text("junk")));
    }
}
