//! Which backups go: those that no rule keeps, and those that are too old to be kept at all (storage limitation) — but
//! never the two newest that were proven, whatever the rules say.

use std::collections::BTreeSet;

use storage::admin::BackupLock;
use time::{Duration, OffsetDateTime};

use super::catalog::{Backup, Catalog, Standing};
use super::create::MANIFEST;
use super::{BackupId, Error, Source};

/// The verified backups that are always kept.
const VERIFIED_MIN: usize = 2;

/// How long backups are kept. A count of 0 keeps none by that rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many.
    pub last: usize,
    /// The newest of each of the last so many days that have one.
    pub daily: usize,
    /// The newest of each of the last so many weeks that have one.
    pub weekly: usize,
    /// The newest of each of the last so many months that have one.
    pub monthly: usize,
    /// Nothing older is kept, in days.
    pub age_days_max: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { last: 7, daily: 14, weekly: 8, monthly: 6, age_days_max: 180 }
    }
}

/// A backup as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub id: BackupId,
    /// When it was taken; unknown when its manifest is not believed.
    pub taken_at: Option<OffsetDateTime>,
    /// What is known of it.
    pub standing: Standing,
}

/// What becomes of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep(Kept),
    /// It goes: no rule keeps it.
    Surplus,
    /// It goes: it is older than the maximum age.
    TooOld,
}

/// Why a backup stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is one of the two newest that were verified.
    Verified,
    /// So it is, although it is older than the maximum age: make newer ones.
    VerifiedAndTooOld,
    /// It is among the newest.
    Last,
    /// It stands for its day.
    Daily,
    /// It stands for its week.
    Weekly,
    /// It stands for its month.
    Monthly,
    /// It is not believed: a person should look at it before it goes.
    Refused,
    /// It was taken by a clock that was ahead.
    Ahead,
}

impl Fate {
    /// In words.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Keep(Kept::Verified) => "kept: one of the two newest verified",
            Self::Keep(Kept::VerifiedAndTooOld) => {
                "kept although too old: one of the only two verified; make newer ones"
            }
            Self::Keep(Kept::Last) => "kept: among the newest",
            Self::Keep(Kept::Daily) => "kept: stands for its day",
            Self::Keep(Kept::Weekly) => "kept: stands for its week",
            Self::Keep(Kept::Monthly) => "kept: stands for its month",
            Self::Keep(Kept::Refused) => "kept: it is not believed, and somebody should look at it",
            Self::Keep(Kept::Ahead) => "kept: it was taken by a clock that was ahead, and somebody should look at it",
            Self::Surplus => "goes: no rule keeps it",
            Self::TooOld => "goes: older than the maximum age",
        }
    }

    /// Whether it stays.
    #[must_use]
    pub const fn stays(self) -> bool {
        matches!(self, Self::Keep(_))
    }
}

/// Those of which a person has to say what they are worth.
const fn is_doubtful(standing: Standing) -> bool {
    matches!(standing, Standing::Refused | Standing::Ahead)
}

/// Decides about every backup. A refused one takes nobody's place, and is itself kept until it is too old; so is one whose
/// time is ahead of the clock, whatever that was.
#[must_use]
pub fn fates(rows: &[Row], retention: &Retention, now: OffsetDateTime) -> Vec<(BackupId, Fate)> {
    let age_max = Duration::days(i64::from(retention.age_days_max));
    let mut newest_first: Vec<&Row> = rows.iter().collect();
    newest_first.sort_by(|a, b| b.id.cmp(&a.id));
    let verified = newest_first.iter().filter(|row| row.standing == Standing::Verified);
    let sacred: BTreeSet<&BackupId> = verified.take(VERIFIED_MIN).map(|row| &row.id).collect();
    let mut places = Places::new(retention);
    let mut fates: Vec<(BackupId, Fate)> = newest_first
        .into_iter()
        .map(|row| {
            let too_old = row.taken_at.is_some_and(|at| now - at > age_max);
            let place = match row.taken_at {
                Some(at) if !is_doubtful(row.standing) && !too_old => places.take(at),
                _ => None,
            };
            let fate = match (sacred.contains(&row.id), too_old, row.standing) {
                (true, true, _) => Fate::Keep(Kept::VerifiedAndTooOld),
                (true, false, _) => Fate::Keep(Kept::Verified),
                (false, true, _) => Fate::TooOld,
                (false, false, Standing::Refused) => Fate::Keep(Kept::Refused),
                (false, false, Standing::Ahead) => Fate::Keep(Kept::Ahead),
                (false, false, _) => place.map_or(Fate::Surplus, Fate::Keep),
            };
            (row.id.clone(), fate)
        })
        .collect();
    fates.reverse();
    fates
}

/// The places that the rules have to give, newest first.
struct Places {
    last: usize,
    periods: [Periods; 3],
}

/// A rule about periods of time.
struct Periods {
    kept: Kept,
    count: usize,
    /// The year, and the day, week or month in it.
    taken: BTreeSet<(i32, u16)>,
}

impl Places {
    fn new(retention: &Retention) -> Self {
        let period = |kept, count| Periods { kept, count, taken: BTreeSet::new() };
        Self {
            last: retention.last,
            periods: [
                period(Kept::Daily, retention.daily),
                period(Kept::Weekly, retention.weekly),
                period(Kept::Monthly, retention.monthly),
            ],
        }
    }

    fn take(&mut self, at: OffsetDateTime) -> Option<Kept> {
        let mut kept = None;
        if self.last > 0 {
            self.last -= 1;
            kept = Some(Kept::Last);
        }
        let (iso_year, week, _) = at.to_iso_week_date();
        let keys =
            [(at.year(), at.ordinal()), (iso_year, u16::from(week)), (at.year(), u16::from(u8::from(at.month())))];
        for (rule, key) in self.periods.iter_mut().zip(keys) {
            if rule.taken.len() < rule.count && rule.taken.insert(key) {
                kept = kept.or(Some(rule.kept));
            }
        }
        kept
    }
}

/// What pruning did, or would do.
#[derive(Debug, Clone)]
pub struct Pruned {
    /// Every backup's fate, oldest first.
    pub fates: Vec<(BackupId, Fate)>,
    /// Objects that were removed.
    pub removed: usize,
}

/// Prunes the backups of one database; with `dry_run` only says what would go.
///
/// # Errors
/// When the target does not answer. A backup whose removal was cut short is no backup any more, and the next run takes the rest.
pub async fn prune(
    source: &Source,
    retention: &Retention,
    now: OffsetDateTime,
    dry_run: bool,
) -> Result<Pruned, Error> {
    let lock = match dry_run {
        true => None,
        false => Some(BackupLock::take(&source.owner_dsn).await?.ok_or(Error::Busy)?),
    };
    let catalog = Catalog::read(source).await?;
    let row = |backup: &Backup| Row {
        id: backup.id.clone(),
        taken_at: backup.taken_at().or_else(|| backup.id.taken_at()),
        standing: backup.standing(),
    };
    let rows: Vec<Row> = catalog.backups.iter().map(row).collect();
    let fates = fates(&rows, retention, now);
    let mut removed = 0;
    if !dry_run {
        for (id, _) in fates.iter().filter(|(_, fate)| !fate.stays()) {
            // The manifest first: what is left without one is no backup.
            source.target.remove(&source.object(id, MANIFEST)).await?;
            removed += 1;
            for object in source.target.list(&format!("{}/{id}", source.prefix())).await? {
                source.target.remove(&object.name).await?;
                removed += 1;
            }
        }
    }
    if let Some(lock) = lock {
        lock.release().await;
    }
    Ok(Pruned { fates, removed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(days_ago: i64, standing: Standing, now: OffsetDateTime) -> Row {
        let at = now - Duration::days(days_ago);
        Row { id: BackupId::new(at), taken_at: Some(at), standing }
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("a time")
    }

    #[test]
    fn the_two_newest_verified_stay_whatever_the_rules_say() {
        let none = Retention { last: 0, daily: 0, weekly: 0, monthly: 0, age_days_max: 1 };
        let ages = [(400, true), (300, true), (200, true), (20, false), (10, false), (0, false)];
        let standing = |good| if good { Standing::Verified } else { Standing::Unverified };
        let rows: Vec<Row> = ages.iter().map(|&(days, good)| row(days, standing(good), now())).collect();
        let fates: Vec<Fate> = fates(&rows, &none, now()).into_iter().map(|(_, fate)| fate).collect();
        let old = Fate::Keep(Kept::VerifiedAndTooOld);
        assert_eq!(fates, [Fate::TooOld, old, old, Fate::TooOld, Fate::TooOld, Fate::Surplus]);
    }

    #[test]
    fn a_refused_backup_takes_nobodys_place() {
        let one = Retention { last: 1, daily: 0, weekly: 0, monthly: 0, age_days_max: 30 };
        let rows = [row(2, Standing::Unverified, now()), row(1, Standing::Refused, now())];
        let fates: Vec<Fate> = fates(&rows, &one, now()).into_iter().map(|(_, fate)| fate).collect();
        assert_eq!(fates, [Fate::Keep(Kept::Last), Fate::Keep(Kept::Refused)]);
    }

    #[test]
    fn one_of_tomorrow_takes_nobodys_place_either() {
        let one = Retention { last: 1, daily: 0, weekly: 0, monthly: 0, age_days_max: 30 };
        let rows =
            [row(2, Standing::Verified, now()), row(1, Standing::Verified, now()), row(-1, Standing::Ahead, now())];
        let fates: Vec<Fate> = fates(&rows, &one, now()).into_iter().map(|(_, fate)| fate).collect();
        assert_eq!(fates, [Fate::Keep(Kept::Verified), Fate::Keep(Kept::Verified), Fate::Keep(Kept::Ahead)]);
    }

    #[test]
    fn days_weeks_and_months_each_keep_their_newest() {
        let rules = Retention { last: 2, daily: 3, weekly: 4, monthly: 3, age_days_max: 180 };
        let rows: Vec<Row> = (0..200).rev().map(|days| row(days, Standing::Unverified, now())).collect();
        let fates = fates(&rows, &rules, now());
        let count = |wanted: Fate| fates.iter().filter(|(_, fate)| *fate == wanted).count();
        // Nothing is verified, so the rules alone decide.
        assert_eq!(count(Fate::Keep(Kept::Last)), 2);
        assert_eq!(count(Fate::Keep(Kept::Daily)), 1, "two of the three days are among the newest");
        assert_eq!(count(Fate::TooOld), 19);
        let kept = fates.iter().filter(|(_, fate)| fate.stays()).count();
        assert!((6..=9).contains(&kept), "{kept}");
    }

    #[test]
    fn nothing_that_stays_is_too_old_but_the_last_proofs() {
        for seed in 0..200_u64 {
            let standings = [Standing::Refused, Standing::Ahead, Standing::Unverified, Standing::Verified];
            let rows: Vec<Row> = (0..40)
                .map(|n| {
                    let mixed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n * 1_442_695_040_888_963);
                    row(i64::try_from(mixed >> 55).expect("small"), standings[(mixed >> 20) as usize % 4], now())
                })
                .collect();
            let rules = Retention::default();
            let fates = fates(&rows, &rules, now());
            let standing = |id: &BackupId| rows.iter().find(|row| row.id == *id).map(|row| row.standing);
            let verified = rows.iter().filter(|row| row.standing == Standing::Verified).count();
            let kept = fates.iter().filter(|(id, fate)| fate.stays() && standing(id) == Some(Standing::Verified));
            assert!(kept.count() >= verified.min(VERIFIED_MIN), "seed {seed}");
            for (id, fate) in &fates {
                let at = rows.iter().find(|row| row.id == *id).and_then(|row| row.taken_at).expect("a time");
                let too_old = now() - at > Duration::days(180);
                assert!(!too_old || matches!(fate, Fate::TooOld | Fate::Keep(Kept::VerifiedAndTooOld)), "seed {seed}");
            }
        }
    }
}
