//! Declared attributes: value, purpose and consent.

use api::{ConsentItem, PutAttribute};
use residency::Purpose;
use storage::Consent;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::error::Error;

/// Purposes of one attribute.
const CONSENTS_MAX: usize = 32;
/// Bytes of a declared value. Escaped and with its consents it fits into one statement to the warehouse, so that whatever
/// is accepted is also forwarded.
const VALUE_BYTES_MAX: usize = 128 << 10;
/// Characters of a source and of a notice's version.
const NAME_CHARS_MAX: usize = 64;

/// Checks a declaration. A consent without a time was given now.
///
/// # Errors
/// [`Error::Invalid`] names the field and its rule; [`Error::BodyTooLarge`] when the value is larger than any that is kept.
pub(crate) fn consents(declared: &PutAttribute, now_us: i64) -> Result<Vec<Consent>, Error> {
    if declared.value.get().len() > VALUE_BYTES_MAX {
        return Err(Error::BodyTooLarge { bytes_max: VALUE_BYTES_MAX });
    }
    name("source", &declared.source)?;
    if !(1..=CONSENTS_MAX).contains(&declared.consents.len()) {
        return Err(Error::invalid("consents", "1 to 32 purposes: what is kept without a purpose may not be used"));
    }
    let mut consents: Vec<Consent> = Vec::with_capacity(declared.consents.len());
    for (index, item) in declared.consents.iter().enumerate() {
        let consent = consent(index, item, now_us)?;
        if consents.iter().any(|earlier| earlier.purpose == consent.purpose) {
            return Err(Error::invalid(format!("consents[{index}].purpose"), "each purpose once"));
        }
        consents.push(consent);
    }
    Ok(consents)
}

fn consent(index: usize, item: &ConsentItem, now_us: i64) -> Result<Consent, Error> {
    let at = |field: &str| format!("consents[{index}].{field}");
    let purpose =
        Purpose::new(&item.purpose).map_err(|malformed| Error::invalid(at("purpose"), malformed.to_string()))?;
    if let Some(version) = &item.notice_version {
        name(&at("notice_version"), version)?;
    }
    let given_at_us = match &item.given_at {
        None => now_us,
        Some(text) => micros(text).ok_or_else(|| Error::invalid(at("given_at"), "a time as in RFC 3339"))?,
    };
    Ok(Consent { purpose, granted: item.granted, notice_version: item.notice_version.clone(), given_at_us })
}

fn name(at: &str, text: &str) -> Result<(), Error> {
    let length = text.chars().count();
    if (1..=NAME_CHARS_MAX).contains(&length) && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Error::invalid(at, "1 to 64 characters without control characters"))
    }
}

/// RFC 3339 as microseconds since 1970-01-01 UTC. `None` for a time whose offset leads out of the years that RFC 3339
/// can write in UTC, 0000 to 9999: nobody could say it again.
pub(crate) fn micros(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
    if at.year() < 0 {
        return None;
    }
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> Result<Vec<Consent>, Error> {
        consents(&serde_json::from_str(body).unwrap(), 77)
    }

    #[test]
    fn a_consent_without_a_time_was_given_now() {
        let given = check(
            r#"{"value":1,"source":"app","consents":[{"purpose":"a","granted":true},
                {"purpose":"b","granted":false,"given_at":"1970-01-01T00:00:01Z"}]}"#,
        )
        .unwrap();
        assert_eq!(given[0].given_at_us, 77);
        assert_eq!(given[1].given_at_us, 1_000_000);
    }

    #[test]
    fn a_value_is_no_larger_than_what_the_warehouse_takes() {
        let declared = |bytes: usize| {
            let value = "x".repeat(bytes - 2);
            check(&format!(r#"{{"value":"{value}","source":"app","consents":[{{"purpose":"a","granted":true}}]}}"#))
        };
        assert!(declared(VALUE_BYTES_MAX).is_ok());
        assert!(matches!(declared(VALUE_BYTES_MAX + 1), Err(Error::BodyTooLarge { bytes_max: VALUE_BYTES_MAX })));
    }

    #[test]
    fn a_time_that_cannot_be_written_in_utc_is_none() {
        assert_eq!(micros("9999-12-31T23:59:59.999999Z"), Some(253_402_300_799_999_999));
        assert_eq!(micros("9999-12-31T23:59:59+00:01"), Some(253_402_300_739_000_000));
        assert_eq!(micros("9999-12-31T23:59:59-00:01"), None);
        assert_eq!(micros("9999-12-31T23:59:59-23:59"), None);
        assert!(micros("0000-01-01T00:00:00Z").is_some());
        assert_eq!(micros("0000-01-01T00:00:00+00:01"), None);
    }

    #[test]
    fn a_declaration_needs_a_purpose_a_source_and_readable_times() {
        for body in [
            r#"{"value":1,"source":"app","consents":[]}"#,
            r#"{"value":1,"source":"","consents":[{"purpose":"a","granted":true}]}"#,
            r#"{"value":1,"source":"app","consents":[{"purpose":"a b","granted":true}]}"#,
            r#"{"value":1,"source":"app","consents":[{"purpose":"a","granted":true},{"purpose":"a","granted":false}]}"#,
            r#"{"value":1,"source":"app","consents":[{"purpose":"a","granted":true,"given_at":"yesterday"}]}"#,
            r#"{"value":1,"source":"app","consents":[{"purpose":"a","granted":true,"given_at":"9999-12-31T23:59:59-23:59"}]}"#,
        ] {
            assert!(matches!(check(body), Err(Error::Invalid(_))), "{body}");
        }
    }
}
