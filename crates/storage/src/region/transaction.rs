//! One batch, one transaction: what is read, folded and written, and in which order.

use std::collections::HashMap;
use std::sync::Arc;

use residency::{Epoch, SubjectId};
use sqlx::postgres::PgConnection;
use tlog::leaf_hash;

use super::doubts::UnderWay;
use super::draft::{Draft, Outcome};
use super::entry::{Deed, Entry};
use super::erasures::{self, Erasing};
use super::head::{self, Place, Stop};
use super::outbox::Columns;
use super::page::Page;
use super::subjects::{self, Fresh};
use super::wants::{Home, Homes, Loaded, Wants};
use super::{Shared, history, idempotency, records, zero_party};
use crate::deeds::Extent;
use crate::error::{Cause, Trouble};
use crate::link::within;

/// A batch that is in the log: what everybody is to be told.
pub(super) struct Sealed {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) hashes: Vec<[u8; 32]>,
    pub(super) registered: Vec<(SubjectId, Arc<Fresh>)>,
    pub(super) fence: u64,
}

/// Why an attempt at a batch did not succeed.
pub(super) enum Failure {
    /// Nothing of it was done.
    Not(Trouble),
    /// Nothing: what its patches are merged into is more than is loaded at a time. There are several of them.
    Heavy,
    /// It may have been done; if so, this is what everybody is to be told.
    Unknown { sealed: Box<Sealed>, cause: Cause },
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Not(trouble)
    }
}

/// Does a batch in one transaction.
///
/// Nothing is locked before it is written, unless `careful`: after the batch was overtaken again and again. What it takes
/// that is to be given back, or looked for, if it does not succeed, it leaves in `under_way`.
pub(super) async fn transact(
    shared: &Shared,
    connection: &mut PgConnection,
    entries: &[Entry],
    careful: bool,
    under_way: &mut UnderWay,
) -> Result<(Sealed, u64), Failure> {
    let (homes, fence) = homes(shared, connection, entries).await?;
    let wants = Wants::of(entries);
    if is_heavy(shared, connection, &wants).await? {
        return Err(Failure::Heavy);
    }
    let erasing = Erasing::of(shared, entries, &homes);
    let careful = careful || erasing.is_some();
    if careful {
        head::begin(shared, connection).await?;
        lock(shared, connection, &wants).await?;
    }
    let mut loaded = load(shared, connection, &wants).await?;
    let behind = match &erasing {
        None => 0,
        Some(erasing) => {
            let (extent, behind) = erase(shared, connection, erasing).await?;
            loaded.erased = Some(extent);
            behind
        }
    };
    let draft = Draft::fold(shared, entries, &homes, &wants, loaded);
    // A few records and nothing else are written by the statement that appends their leaves.
    let records: &[records::Written<'_>] =
        if !careful && draft.only_few_records(shared.limits.page_records_max) { &draft.records } else { &[] };
    let changes = draft.changes() && records.is_empty();
    if changes {
        if !careful {
            head::begin(shared, connection).await?;
        }
        write(shared, connection, &draft).await?;
    }
    under_way.numbers = shared.numbers.take(draft.leaves.iter().filter(|said| said.is_unnumbered()).count());
    let (text, ends, details) = draft.lines(shared, &under_way.numbers)?;
    let mut start = 0;
    let mut lines = Vec::with_capacity(ends.len());
    for end in ends {
        lines.push(&text[start..end]);
        start = end;
    }
    let hashes: Vec<[u8; 32]> = lines.iter().map(|line| leaf_hash(line.as_bytes())).collect();
    under_way.place = hashes.first().map(|hash| Place::From { seq: *shared.committed.borrow(), hash: *hash });
    let at_us = entries.first().map_or(0, Entry::at_us);
    let erasing = erasing.as_ref().map(|erasing| (erasing, behind));
    // An erasure takes the head's lock before it is done, and its subject's deeds come one after the other: another
    // subject's erasure meanwhile is no reason to begin anew.
    let under = fence.filter(|_| erasing.is_none());
    let page =
        Page { lines, hashes, events: Columns::of(&draft.events), records, details, fence: under, at_us, erasing };
    let appended = head::append(shared, connection, &page, careful || changes).await;
    let hashes = page.hashes;
    let registered = draft.registered.iter().map(|(subject, fresh)| ((*subject).clone(), Arc::clone(fresh))).collect();
    let fence = fence.unwrap_or_default();
    let sealed = Sealed { outcomes: draft.outcomes, hashes, registered, fence };
    match appended {
        Ok(first) => Ok((sealed, first)),
        Err(Stop::Not(trouble)) => Err(Failure::Not(trouble)),
        Err(Stop::Unknown { cause, seq, hash }) => {
            under_way.place = Some(Place::At { seq, hash });
            Err(Failure::Unknown { sealed: Box::new(sealed), cause })
        }
    }
}

/// What is known of the batch's subjects, and the fence under which it is true.
async fn homes<'a>(
    shared: &Shared,
    connection: &mut PgConnection,
    entries: &'a [Entry],
) -> Result<(Homes<'a>, Option<u64>), Trouble> {
    let patience = shared.address.patience();
    let mut homes = HashMap::new();
    let deeds = || entries.iter().filter_map(|entry| if let Entry::Deed(deed) = entry { Some(deed) } else { None });
    if deeds().next().is_none() {
        return Ok((homes, None));
    }
    let fence = match shared.head.fence() {
        Some(fence) => fence,
        None => within(patience, head::look_at_fence(shared, connection)).await?,
    };
    let mut missing: HashMap<&str, &Deed> = HashMap::new();
    for deed in deeds() {
        let subject = deed.permit.subject();
        if homes.contains_key(subject.expose()) || missing.contains_key(subject.expose()) {
            continue;
        }
        match shared.subjects.get(subject, fence) {
            Some(known) => drop(homes.insert(subject.expose(), Home::Known(known))),
            None => drop(missing.insert(subject.expose(), deed)),
        }
    }
    if !missing.is_empty() {
        let names: Vec<&str> = missing.keys().copied().collect();
        let mut found = within(patience, subjects::load(connection, &names, shared)).await?;
        let unknown = missing.iter().filter(|(name, _)| !found.contains_key(**name));
        let digests: Vec<[u8; 32]> = unknown
            .flat_map(|(_, deed)| shared.peppers.digests(deed.permit.subject()).map(|digest| digest.bytes))
            .collect();
        let erased = within(patience, erasures::known(connection, &digests)).await?;
        for (name, deed) in missing {
            let subject = deed.permit.subject();
            let gone = shared.peppers.digests(subject).any(|digest| erased.contains(&digest.bytes));
            let home = match found.remove(name) {
                Some(known) => {
                    let known = Arc::new(known);
                    shared.subjects.insert(subject.clone(), fence, Arc::clone(&known));
                    Home::Known(known)
                }
                None if gone => Home::Erased,
                None if deed.permit.epoch() == Epoch::FIRST => {
                    Home::Fresh(Arc::new(Fresh::draw(shared, subject, deed.permit.decision().at_us)))
                }
                None => Home::Nobody,
            };
            homes.insert(name, home);
        }
    }
    Ok((homes, Some(fence)))
}

/// Takes away what rests about a subject, without keeping others from committing. What went, and the end of the log
/// before: what is committed behind it is swept under the head's lock.
async fn erase(
    shared: &Shared,
    connection: &mut PgConnection,
    erasing: &Erasing<'_>,
) -> Result<(Extent, u64), Trouble> {
    let patience = shared.limits.erasure_timeout;
    within(shared.address.patience(), erasures::take_time(connection, patience)).await?;
    let size = within(shared.address.patience(), head::read(connection)).await?.size();
    let extent = within(patience, erasures::erase(connection, erasing, &shared.origin, 0)).await?;
    // It waited for whoever erased the same subject at another gateway. Then this one comes too late, and begins anew in
    // order to say so.
    if within(shared.address.patience(), erasures::came_first(connection, erasing)).await? {
        within(shared.address.patience(), head::look_at_fence(shared, connection)).await?;
        return Err(Trouble::Conflict(Cause::new("the subject was erased meanwhile")));
    }
    Ok((extent, size.saturating_sub(1)))
}

/// Locks the rows that are there, so that nobody overtakes this time.
async fn lock(shared: &Shared, connection: &mut PgConnection, wants: &Wants<'_>) -> Result<(), Trouble> {
    let patience = shared.address.patience();
    if !wants.records.is_empty() {
        within(patience, records::lock(connection, &shared.region, &wants.records)).await?;
    }
    if !wants.attributes.is_empty() {
        within(patience, zero_party::lock(connection, &shared.region, &wants.attributes)).await?;
    }
    Ok(())
}

/// Whether the bodies that are to be loaded are more than a batch may hold. A few cannot be, and are not measured.
async fn is_heavy(shared: &Shared, connection: &mut PgConnection, wants: &Wants<'_>) -> Result<bool, Trouble> {
    let bodies = wants.records.iter().filter(|(_, body_wanted)| *body_wanted).count();
    let bytes_max = shared.limits.batch_bytes_max;
    if bodies < 2 || bodies.saturating_mul(shared.limits.record_bytes_max) <= bytes_max {
        return Ok(false);
    }
    let measured = records::measure(connection, &shared.region, &wants.records);
    Ok(within(shared.address.patience(), measured).await? > bytes_max as u64)
}

async fn load(shared: &Shared, connection: &mut PgConnection, wants: &Wants<'_>) -> Result<Loaded, Trouble> {
    let patience = shared.address.patience();
    let mut loaded = Loaded::default();
    if !wants.records.is_empty() {
        loaded.records = within(patience, records::load(connection, &shared.region, &wants.records)).await?;
    }
    if !wants.attributes.is_empty() {
        loaded.attributes = within(patience, zero_party::load(connection, &shared.region, &wants.attributes)).await?;
    }
    if !wants.keys.is_empty() {
        loaded.keys = within(patience, idempotency::load(connection, &wants.keys)).await?;
    }
    Ok(loaded)
}

/// Writes the changes, every table in the same order and every table's rows in the order of their keys.
/// A row that is missing from a count was changed by somebody else since it was loaded.
async fn write(shared: &Shared, connection: &mut PgConnection, draft: &Draft<'_>) -> Result<(), Trouble> {
    let patience = shared.address.patience();
    let region = &shared.region;
    if !draft.registered.is_empty() {
        let fresh: Vec<_> = draft.registered.iter().map(|(subject, fresh)| (*subject, &**fresh)).collect();
        let done = within(patience, subjects::register(connection, &fresh)).await?;
        all(done, fresh.len(), "a subject was registered meanwhile")?;
    }
    if !draft.floors.is_empty() {
        let done = within(patience, subjects::lift_floors(connection, &draft.floors)).await?;
        all(done, draft.floors.len(), "a subject is missing")?;
    }
    for records in [&draft.records, &draft.passed_records] {
        records::change(shared, connection, records).await?;
    }
    for attributes in [&draft.attributes, &draft.passed_attributes].into_iter().filter(|these| !these.is_empty()) {
        let done = within(patience, zero_party::write(connection, region, attributes)).await?;
        all(done, attributes.len(), "an attribute was changed meanwhile")?;
    }
    if !draft.taken_back.is_empty() {
        // As long as the history is, and so as long as an erasure may take. Whoever else commits does not wait for it.
        within(shared.limits.erasure_timeout, history::blank(connection, &draft.taken_back)).await?;
    }
    if !draft.keys_used.is_empty() {
        let done = within(patience, idempotency::remember(connection, &draft.keys_used)).await?;
        all(done, draft.keys_used.len(), "an idempotency key was used meanwhile")?;
    }
    Ok(())
}

pub(super) fn all(done: u64, expected: usize, otherwise: &'static str) -> Result<(), Trouble> {
    if done == expected as u64 { Ok(()) } else { Err(Trouble::Conflict(Cause::new(otherwise))) }
}
