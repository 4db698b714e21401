//! Query parameters, each documented one at most once. Where they filter, no other may stand: a misspelt
//! filter must not pass for none. Evidence and regions are never read from a query.

use std::collections::BTreeMap;

use http::Uri;
use residency::Region;
use storage::RegionStore;

use super::attribute::micros;
use super::cursor::Search;
use crate::app::App;
use crate::error::Error;
use crate::readings::said;

/// Parameters of one query.
const PARAMETERS_MAX: usize = 32;

/// Rows of one page of a search, unless the caller asks for another number.
const PAGE_ROWS: u16 = 50;

/// The parameters of a query, by name.
#[derive(Debug)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads the parameters of these names; there may be no others.
    ///
    /// # Errors
    /// [`Error::Query`] when one is unknown, stands twice, or is not percent-encoded UTF-8.
    pub(crate) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Error> {
        Self::parse(uri, known, true)
    }

    /// Reads the parameters of these names, and looks at no others.
    ///
    /// # Errors
    /// As for [`Query::read`], of the known ones.
    pub(crate) fn pick(uri: &Uri, known: &[&str]) -> Result<Self, Error> {
        Self::parse(uri, known, false)
    }

    fn parse(uri: &Uri, known: &[&str], strict: bool) -> Result<Self, Error> {
        let mut parameters = BTreeMap::new();
        let pairs: axum::extract::Query<Vec<(String, String)>> =
            axum::extract::Query::try_from_uri(uri).map_err(|_| Error::query("query", "percent-encoded UTF-8"))?;
        if pairs.len() > PARAMETERS_MAX {
            return Err(Error::query("query", "at most 32 parameters"));
        }
        for (name, value) in pairs.0 {
            let Some(name) = known.iter().find(|known| **known == name) else {
                if !strict {
                    continue;
                }
                return Err(Error::query("query", &format!("known here: {}", known.join(", "))));
            };
            // Decoding is lossy; what was not UTF-8 shows as a replacement character.
            if value.contains('\u{fffd}') || value.contains('\0') {
                return Err(Error::query(name, "percent-encoded UTF-8 without NUL"));
            }
            if parameters.insert((*name).to_owned(), value).is_some() {
                return Err(Error::query(name, "it may stand once"));
            }
        }
        Ok(Self(parameters))
    }

    /// A parameter as text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A parameter as a number within bounds.
    ///
    /// # Errors
    /// [`Error::Query`] when it is none.
    pub(crate) fn number(&self, name: &str, least: u16, most: u16, otherwise: u16) -> Result<u16, Error> {
        match self.text(name) {
            None => Ok(otherwise),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| Error::query(name, &format!("a number from {least} to {most}"))),
        }
    }

    /// A parameter read by a rule.
    ///
    /// # Errors
    /// [`Error::Query`] with the rule.
    pub(crate) fn word<T>(
        &self,
        name: &str,
        rule: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.text(name).map(|text| parse(text).ok_or_else(|| Error::query(name, rule))).transpose()
    }
}

/// Parameters that every search of the region logs has.
impl Query {
    /// A time, microseconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// [`Error::Query`] when it is none.
    pub(crate) fn time(&self, name: &str) -> Result<Option<i64>, Error> {
        self.word(name, "a time as in RFC 3339", micros)
    }

    /// Yes or no.
    ///
    /// # Errors
    /// [`Error::Query`] when it is neither.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        self.word(name, "`true` or `false`", |text| text.parse().ok())
    }

    /// A region.
    ///
    /// # Errors
    /// [`Error::Query`] when it cannot be one.
    pub(crate) fn region(&self, name: &str) -> Result<Option<Region>, Error> {
        self.word(name, "a region", |text| Region::new(text).ok())
    }

    /// The stores that `region` names: that one, or all that are served here.
    ///
    /// # Errors
    /// [`Error::Query`] when it is not served here.
    pub(crate) fn stores(&self, app: &App) -> Result<Vec<RegionStore>, Error> {
        let region = self.region("region")?;
        let wanted = |store: &&RegionStore| region.as_ref().is_none_or(|region| store.region() == region);
        let stores: Vec<_> = app.routing.regions().filter(wanted).cloned().collect();
        if stores.is_empty() {
            return Err(Error::query("region", "a region that this gateway serves"));
        }
        Ok(stores)
    }

    /// Rows of a page, `limit`: 50 unless it says otherwise.
    ///
    /// # Errors
    /// [`Error::Query`] when it is out of bounds.
    pub(crate) fn limit(&self) -> Result<u16, Error> {
        self.number("limit", 1, audit::PAGE_ROWS_MAX, PAGE_ROWS)
    }

    /// Where a page begins, `cursor`: at the newest when it is absent.
    ///
    /// # Errors
    /// [`Error::Cursor`] when we did not make it for this search.
    pub(crate) fn cursor(&self, search: Search) -> Result<audit::Cursor, Error> {
        Ok(self.text("cursor").map(|cursor| search.begin(cursor)).transpose()?.unwrap_or_default())
    }

    /// The parameters of these names as the log keeps them.
    pub(crate) fn said(&self, app: &App, names: &[&str]) -> Vec<String> {
        let policy = app.routing.policy();
        names.iter().filter_map(|name| self.text(name).map(|value| said(&policy, name, value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_known_and_stands_once() {
        let read = |query: &str| Query::read(&format!("/x?{query}").parse().unwrap(), &["limit", "cursor"]);
        assert_eq!(read("limit=7&cursor=a%20b").unwrap().text("cursor"), Some("a b"));
        assert_eq!(read("limit=7").unwrap().number("limit", 1, 10, 5).unwrap(), 7);
        assert_eq!(read("").unwrap().number("limit", 1, 10, 5).unwrap(), 5);
        for query in ["limit=1&limit=2", "limits=1", "region=us-east", "cursor=%00"] {
            assert!(read(query).is_err(), "{query}");
        }
        for query in ["limit=0", "limit=11", "limit=x", "limit=-1", "limit="] {
            assert!(read(query).unwrap().number("limit", 1, 10, 5).is_err(), "{query}");
        }
    }
}
