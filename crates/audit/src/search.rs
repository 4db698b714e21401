//! Searching the region logs: each region is asked by itself, and what they answer is merged, newest first.
//! A region that does not answer is named, never left out in silence.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use futures::future::join_all;
use leaf::{NotALeaf, Parsed};
use residency::{DecisionId, Region};
use storage::{DecisionFilter, DecisionRow, RegionStore};

/// The most rows on a page.
pub const PAGE_ROWS_MAX: u16 = 200;
/// The most bytes of a cursor's text.
const CURSOR_BYTES_MAX: usize = 4_096;

/// One leaf of a region log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The region whose log holds it.
    pub region: Region,
    /// Its index in that log.
    pub seq: u64,
    /// Its RFC 6962 hash as the log holds it.
    pub leaf_hash: tlog::Hash,
    /// The leaf's bytes, verbatim.
    pub line: String,
    /// What it says, or why it cannot be read.
    pub parsed: Result<Parsed, NotALeaf>,
}

impl Entry {
    fn new(region: &Region, row: DecisionRow) -> Self {
        let parsed = leaf::parse(row.line.as_bytes());
        Self { region: region.clone(), seq: row.seq, leaf_hash: row.leaf_hash, line: row.line, parsed }
    }

    /// Whether the stored bytes still have the stored hash. If not, one of them was edited.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        tlog::leaf_hash(self.line.as_bytes()) == self.leaf_hash
    }

    /// When the decision was taken. What cannot be read comes first, where it is seen.
    fn at_us(&self) -> i64 {
        self.parsed.as_ref().map_or(i64::MAX, |parsed| parsed.decision.at_us)
    }
}

/// One region's part in a search.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The region.
    pub region: Region,
    /// Why it did not answer; `None` when it did.
    pub error: Option<storage::Error>,
}

/// A page of decisions, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// The decisions.
    pub entries: Vec<Entry>,
    /// Every region that was asked, and whether it answered.
    pub regions: Vec<Answered>,
    /// Where the next page begins; `None` behind the last.
    pub next: Option<Cursor>,
}

impl Page {
    /// Whether a region answered.
    #[must_use]
    pub fn answered(&self, region: &Region) -> bool {
        self.regions.iter().any(|asked| asked.region == *region && asked.error.is_none())
    }
}

/// Where a page begins: for each region, the sequence number before which to go on. Empty for the first page.
/// `Display` and `FromStr` use only characters that need no escaping in a URL: `eu-central.120~us-east.7`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor(BTreeMap<Region, u64>);

impl Cursor {
    /// Where to go on in a region; `None` for its newest leaf.
    #[must_use]
    pub fn before(&self, region: &Region) -> Option<u64> {
        self.0.get(region).copied()
    }

    /// Goes on behind this position of a region.
    pub(crate) fn stands_at(&mut self, region: Region, position: u64) {
        self.0.insert(region, position);
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (region, seq)) in self.0.iter().enumerate() {
            let separator = if index > 0 { "~" } else { "" };
            write!(f, "{separator}{region}.{seq}")?;
        }
        Ok(())
    }
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a cursor that a page of decisions gave out")]
pub struct NotACursor;

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        if text.is_empty() || text.len() > CURSOR_BYTES_MAX {
            return Err(NotACursor);
        }
        let one = |part: &str| {
            let (region, seq) = part.split_once('.')?;
            Some((Region::new(region).ok()?, seq.parse().ok().filter(|seq| *seq <= tlog::SIZE_MAX)?))
        };
        text.split('~').map(one).collect::<Option<_>>().map(Self).ok_or(NotACursor)
    }
}

/// Searches the logs of these regions, newest first. `filter.limit` is the length of the page, at most
/// [`PAGE_ROWS_MAX`]; `filter.before_seq` is taken from the cursor.
pub async fn search(stores: &[RegionStore], filter: &DecisionFilter, cursor: &Cursor) -> Page {
    let rows_max = filter.limit.clamp(1, PAGE_ROWS_MAX);
    let ask = |store: &RegionStore| {
        let (region, log) = (store.region().clone(), store.log());
        let filter = DecisionFilter { before_seq: cursor.before(&region), limit: rows_max, ..filter.clone() };
        async move {
            let answer = log.decisions(filter).await;
            (region, answer)
        }
    };
    let answers = join_all(stores.iter().map(ask)).await;
    page(answers, usize::from(rows_max), cursor)
}

/// Finds one decision, wherever it was logged, and which regions were asked. A decision is in one log, but for
/// a request that was first turned away at another home: the first found is returned.
pub async fn find(stores: &[RegionStore], id: DecisionId) -> (Option<Entry>, Vec<Answered>) {
    let ask = |store: &RegionStore| {
        let (region, log) = (store.region().clone(), store.log());
        async move {
            let answer = log.decision(id).await;
            (region, answer)
        }
    };
    let (mut found, mut regions) = (None, Vec::new());
    for (region, answer) in join_all(stores.iter().map(ask)).await {
        let error = match answer {
            Ok(row) => {
                found = found.or_else(|| row.map(|row| Entry::new(&region, row)));
                None
            }
            Err(error) => Some(error),
        };
        regions.push(Answered { region, error });
    }
    (found, regions)
}

type Answer = (Region, Result<Vec<DecisionRow>, storage::Error>);

/// Merges what the regions answered. Within a region the log's order holds, whatever clocks say.
fn page(answers: Vec<Answer>, rows_max: usize, cursor: &Cursor) -> Page {
    let mut regions = Vec::with_capacity(answers.len());
    let mut queues = Vec::with_capacity(answers.len());
    let mut next = cursor.clone();
    let mut more = false;
    for (region, answer) in answers {
        let error = match answer {
            Ok(rows) => {
                more |= rows.len() >= rows_max;
                let entries = rows.into_iter().map(|row| Entry::new(&region, row));
                queues.push(entries.collect::<std::collections::VecDeque<_>>());
                None
            }
            Err(error) => Some(error),
        };
        regions.push(Answered { region, error });
    }
    let mut entries = Vec::with_capacity(rows_max);
    while entries.len() < rows_max {
        let newest = queues.iter_mut().max_by_key(|queue| queue.front().map(Entry::at_us));
        let Some(entry) = newest.and_then(std::collections::VecDeque::pop_front) else { break };
        next.0.insert(entry.region.clone(), entry.seq);
        entries.push(entry);
    }
    more |= queues.iter().any(|queue| !queue.is_empty());
    Page { next: (more && !entries.is_empty()).then_some(next), entries, regions }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> Region {
        Region::new(name).expect("a region")
    }

    fn rows(seconds: &[(u64, u32)]) -> Vec<DecisionRow> {
        seconds
            .iter()
            .map(|(seq, second)| {
                let line = crate::explain::tests::LINE.replace("20:42:36", &format!("20:42:{second:02}"));
                DecisionRow { seq: *seq, leaf_hash: tlog::leaf_hash(line.as_bytes()), line }
            })
            .collect()
    }

    fn seqs(page: &Page) -> Vec<(&str, u64)> {
        page.entries.iter().map(|entry| (entry.region.as_str(), entry.seq)).collect()
    }

    #[test]
    fn regions_are_merged_newest_first_and_the_cursor_goes_on_where_the_page_ended() {
        let eu = region("eu-central");
        let us = region("us-east");
        let answers =
            || vec![(eu.clone(), Ok(rows(&[(9, 50), (8, 30), (7, 10)]))), (us.clone(), Ok(rows(&[(4, 40), (3, 20)])))];
        let page = page(answers(), 3, &Cursor::default());
        assert_eq!(seqs(&page), [("eu-central", 9), ("us-east", 4), ("eu-central", 8)]);
        let next = page.next.expect("more");
        assert_eq!((next.before(&eu), next.before(&us)), (Some(8), Some(4)));
        assert_eq!(next.to_string().parse(), Ok(next));
    }

    #[test]
    fn the_last_page_leads_nowhere() {
        let page = page(vec![(region("eu-central"), Ok(rows(&[(1, 1)])))], 3, &Cursor::default());
        assert_eq!((page.entries.len(), page.next), (1, None));
    }

    #[test]
    fn a_clock_that_went_back_does_not_reorder_a_log() {
        let page = page(vec![(region("eu-central"), Ok(rows(&[(9, 10), (8, 50)])))], 2, &Cursor::default());
        assert_eq!(seqs(&page), [("eu-central", 9), ("eu-central", 8)]);
    }

    #[test]
    fn a_region_that_does_not_answer_is_named() {
        let down = storage::Error::Overloaded { region: region("us-east") };
        let answers = vec![(region("eu-central"), Ok(rows(&[(1, 1)]))), (region("us-east"), Err(down.clone()))];
        let page = page(answers, 3, &Cursor::default());
        assert_eq!(page.entries.len(), 1);
        assert_eq!(page.regions[0].error, None);
        assert_eq!(page.regions[1].error, Some(down));
    }

    #[test]
    fn an_edited_line_is_not_intact() {
        let mut row = rows(&[(1, 1)]).remove(0);
        assert!(Entry::new(&region("eu-central"), row.clone()).is_intact());
        row.line = row.line.replacen("\"rows\":1", "\"rows\":2", 1);
        assert!(!Entry::new(&region("eu-central"), row).is_intact());
    }

    #[test]
    fn a_made_up_cursor_is_refused() {
        for text in ["", "x", "eu.", "EU.1", "all.1", "eu.-1", "eu.99999999999999999999", "eu.1~", "eu.1,us.2"] {
            assert_eq!(text.parse::<Cursor>(), Err(NotACursor), "{text}");
        }
    }
}
