//! `If-Match` and `If-None-Match` (RFC 9110, section 13), on versions.
//!
//! A version's entity tag is `"<version>"`, strong. `If-Match` compares strongly, so a weak tag in it
//! can never match and is refused as a mistake rather than answered 412 for ever.

use http::HeaderMap;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use storage::Precondition;

use crate::error::Error;

/// Entity tags in one header.
const TAGS_MAX: usize = 64;

/// What a change demands of the present state.
///
/// # Errors
/// [`Error::Header`] when a header cannot be read, or both stand together.
pub(crate) fn for_change(headers: &HeaderMap) -> Result<Precondition, Error> {
    parse_change(&joined(headers, IF_MATCH.as_str())?, &joined(headers, IF_NONE_MATCH.as_str())?)
}

/// The same, from header values that were given as text.
///
/// # Errors
/// As for [`for_change`].
pub(crate) fn parse_change(if_match: &Option<String>, if_none_match: &Option<String>) -> Result<Precondition, Error> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Precondition::None),
        (Some(text), None) => match tags("if-match", text)? {
            Tags::Any => Ok(Precondition::Exists),
            Tags::These { weak: true, .. } => Err(malformed("if-match", "it compares strongly: weak tags never match")),
            Tags::These { versions, .. } => Ok(Precondition::VersionIn(versions)),
        },
        (None, Some(text)) => match tags("if-none-match", text)? {
            Tags::Any => Ok(Precondition::Absent),
            Tags::These { .. } => {
                Err(malformed("if-none-match", "on a change it is `*`: only if nothing is stored yet"))
            }
        },
        (Some(_), Some(_)) => Err(malformed("if-none-match", "it cannot stand beside `If-Match`")),
    }
}

/// What a reader already holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing.
    Nothing,
    /// Anything: it only wants to know whether there is something.
    Anything,
    /// These versions.
    Versions(Vec<u64>),
}

impl Held {
    /// Whether the reader holds this version, so that 304 is the answer.
    pub(crate) fn has(&self, version: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Anything => true,
            Self::Versions(versions) => versions.contains(&version),
        }
    }
}

/// What a reader holds, by its `If-None-Match`; the comparison is weak there.
///
/// # Errors
/// [`Error::Header`] when the header cannot be read.
pub(crate) fn for_read(headers: &HeaderMap) -> Result<Held, Error> {
    match joined(headers, IF_NONE_MATCH.as_str())? {
        None => Ok(Held::Nothing),
        Some(text) => Ok(match tags("if-none-match", &text)? {
            Tags::Any => Held::Anything,
            Tags::These { versions, .. } => Held::Versions(versions),
        }),
    }
}

/// A version's entity tag.
pub(crate) fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

enum Tags {
    Any,
    These { versions: Vec<u64>, weak: bool },
}

/// The values of a list header, as one (RFC 9110, section 5.3).
fn joined(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Error> {
    let mut whole: Option<String> = None;
    for value in headers.get_all(name) {
        let value = value.to_str().map_err(|_| malformed(name, "visible ASCII only"))?;
        match &mut whole {
            None => whole = Some(value.to_owned()),
            Some(whole) => {
                whole.push(',');
                whole.push_str(value);
            }
        }
    }
    Ok(whole)
}

fn tags(name: &'static str, text: &str) -> Result<Tags, Error> {
    if text.trim() == "*" {
        return Ok(Tags::Any);
    }
    let rule = "`*`, or entity tags as answered in `ETag`, e.g. `\"3\"`, separated by commas";
    let (mut versions, mut weak, mut count) = (Vec::new(), false, 0);
    let mut rest = text.trim();
    loop {
        if let Some(strong) = rest.strip_prefix("W/") {
            weak = true;
            rest = strong;
        }
        let (tag, behind) =
            rest.strip_prefix('"').and_then(|inside| inside.split_once('"')).ok_or_else(|| malformed(name, rule))?;
        if !tag.bytes().all(|byte| byte == b'!' || (0x23..=0x7e).contains(&byte)) {
            return Err(malformed(name, rule));
        }
        count += 1;
        if count > TAGS_MAX {
            return Err(malformed(name, "at most 64 entity tags"));
        }
        // A well-formed tag that is no version of ours simply matches nothing.
        if let Some(version) = version(tag) {
            versions.push(version);
        }
        rest = match behind.trim_start() {
            "" => return Ok(Tags::These { versions, weak }),
            more => more.strip_prefix(',').ok_or_else(|| malformed(name, rule))?.trim_start(),
        };
    }
}

/// A version in the one spelling that we send: `"03"` is not `"3"`.
fn version(tag: &str) -> Option<u64> {
    tag.parse().ok().filter(|version: &u64| version.to_string() == tag)
}

fn malformed(name: &'static str, rule: &'static str) -> Error {
    Error::Header { name, rule }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change(pairs: &[(&'static str, &str)]) -> Option<Precondition> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        for_change(&headers).ok()
    }

    #[test]
    fn if_match_is_a_list_of_versions_or_any() {
        assert!(matches!(change(&[]), Some(Precondition::None)));
        assert!(matches!(change(&[("if-match", "*")]), Some(Precondition::Exists)));
        assert!(matches!(change(&[("if-match", "\"3\"")]), Some(Precondition::VersionIn(v)) if v == [3]));
        assert!(matches!(change(&[("if-match", "\"3\", \"7\"")]), Some(Precondition::VersionIn(v)) if v == [3, 7]));
        assert!(
            matches!(change(&[("if-match", "\"3\""), ("if-match", "\"4\"")]), Some(Precondition::VersionIn(v)) if v == [3, 4])
        );
        assert!(matches!(change(&[("if-none-match", "*")]), Some(Precondition::Absent)));
    }

    #[test]
    fn a_tag_that_is_no_version_matches_nothing_but_is_no_mistake() {
        assert!(matches!(change(&[("if-match", "\"abc\"")]), Some(Precondition::VersionIn(v)) if v.is_empty()));
        assert!(matches!(change(&[("if-match", "\"03\"")]), Some(Precondition::VersionIn(v)) if v.is_empty()));
    }

    #[test]
    fn weak_bare_and_broken_tags_are_refused_rather_than_ignored() {
        for text in ["W/\"3\"", "3", "", "\"3", "\"3\" \"4\"", "\"3\",", "*, \"3\"", "\"a b\""] {
            assert!(change(&[("if-match", text)]).is_none(), "{text}");
        }
        assert!(change(&[("if-none-match", "\"3\"")]).is_none());
        assert!(change(&[("if-match", "*"), ("if-none-match", "*")]).is_none());
    }

    #[test]
    fn a_reader_is_compared_weakly() {
        let mut headers = HeaderMap::new();
        headers.insert("if-none-match", "W/\"3\", \"5\"".parse().unwrap());
        let held = for_read(&headers).unwrap();
        assert!(held.has(3) && held.has(5) && !held.has(4));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(text in "[ -~]{0,60}") {
            let _ = parse_change(&Some(text.clone()), &None);
            let _ = parse_change(&None, &Some(text));
        }
    }
}
