//! Reading a fact back, as strictly as a decision: whatever reads must write the same bytes again.

use residency::{Region, Transfer};
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::canonical::check_canonical;
use crate::fact::{Crossing, Fact, FactKind, LIST_ITEMS_MAX, Shape, Value};
use crate::gateway::GatewayId;
use crate::read::{NotALeaf, read_time};
use crate::subject::SubjectTag;

/// A fact as it was read, with who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedFact {
    /// What happened.
    pub fact: Fact,
    /// Who wrote it.
    pub gateway: GatewayId,
    /// The gateway's count of its leaves since its boot.
    pub gseq: u64,
}

/// Reads a line of a region log that is about no decision, of a kind that is known here.
///
/// # Errors
/// [`NotALeaf`] unless these bytes are exactly what [`Fact::encode_into`] writes for some fact.
pub fn parse_fact(line: &[u8]) -> Result<ParsedFact, NotALeaf> {
    check_canonical(line)?;
    let mut json: Map<String, Json> = serde_json::from_slice(line).map_err(|_| NotALeaf::OtherFields)?;
    let bad = NotALeaf::Field;
    let kind = json.remove("k").and_then(|k| FactKind::named(k.as_str()?)).ok_or(bad("k"))?;
    let gateway = json.remove("gw").and_then(|gw| GatewayId::read(gw.as_str()?).ok()).ok_or(bad("gw"))?;
    let gseq = json.remove("gseq").and_then(|gseq| gseq.as_u64()).ok_or(bad("gseq"))?;
    let at_us = json.remove("ts").and_then(|ts| read_time(ts.as_str()?)).ok_or(bad("ts"))?;
    if json.remove("v").and_then(|v| v.as_u64()) != Some(1) {
        return Err(bad("v"));
    }
    let mut fields = Vec::with_capacity(json.len());
    for (key, value) in &json {
        let field = kind.field(key).ok_or(NotALeaf::OtherFields)?;
        fields.push((field.key, value_of(field.shape, value).ok_or(bad(field.key))?));
    }
    if let Some(missing) =
        kind.fields().iter().find(|field| field.required && !fields.iter().any(|(key, _)| *key == field.key))
    {
        return Err(bad(missing.key));
    }
    fields.sort_unstable_by_key(|(key, _)| *key);
    let fact = Fact { kind, at_us, fields };
    let mut again = Vec::with_capacity(line.len());
    fact.encode_into(&gateway, gseq, &mut again);
    if again == line { Ok(ParsedFact { fact, gateway, gseq }) } else { Err(NotALeaf::Rewritten) }
}

fn value_of(shape: Shape, json: &Json) -> Option<Value> {
    let text = || json.as_str().map(str::to_owned);
    match shape {
        Shape::Text => text().map(Value::Text),
        Shape::Count => json.as_u64().map(Value::Count),
        Shape::Sha256 => text().filter(|text| is_sha256(text)).map(Value::Text),
        Shape::Tag => text().filter(|text| SubjectTag::read(text).is_some()).map(Value::Text),
        Shape::Texts => {
            let items = json.as_array().filter(|items| items.len() <= LIST_ITEMS_MAX)?;
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().map(Value::Texts)
        }
        Shape::Range => match json.as_array()?.as_slice() {
            [from, to] => {
                let (from, to) = (from.as_u64()?, to.as_u64()?);
                (from <= to).then_some(Value::Range(from, to))
            }
            _ => None,
        },
        Shape::Crossing => {
            let written: WrittenCrossing = serde_json::from_value(json.clone()).ok()?;
            written.into_crossing().map(|crossing| Value::Crossing(Box::new(crossing)))
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A transfer as a leaf writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenCrossing {
    basis: String,
    from: String,
    id: Uuid,
    inst: Option<String>,
    to: String,
}

impl WrittenCrossing {
    pub(crate) fn into_crossing(self) -> Option<Crossing> {
        let region = |name: &str| Region::new(name).ok();
        let transfer = Transfer {
            from: region(&self.from)?,
            to: region(&self.to)?,
            basis: self.basis.into(),
            instrument: self.inst.map(Into::into),
        };
        Some(Crossing { id: self.id, transfer })
    }
}
