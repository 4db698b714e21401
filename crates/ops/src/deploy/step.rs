//! The steps of a deployment, in order.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One step. Each can be done again after a crash in its midst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The image gets a tag of its own, and the release is written down.
    Pin,
    /// Databases, broker and edge run.
    Stores,
    /// Every region's database is backed up, in its region.
    Backup,
    /// The schema grows.
    Expand,
    /// The old release is asked to work on the new schema.
    OldSmoke,
    /// Candidates start beside what serves.
    Start,
    /// They prove that they can serve.
    Gate,
    /// The edge sends them requests, a share at a time.
    Switch,
    /// They serve everything and are watched, the old ones still running.
    Bake,
    /// Relays, forwarders and signers are replaced, one after the other.
    Roles,
    /// The old ones get no more requests, finish what they have, and end.
    Drain,
    /// It is written down that the new release serves.
    Commit,
    /// What no release replaces takes up its changed settings.
    Settings,
    /// Releases that nobody can want back are removed.
    Prune,
}

impl Step {
    /// The steps of a deployment.
    pub const DEPLOY: [Self; 14] = [
        Self::Pin,
        Self::Stores,
        Self::Backup,
        Self::Expand,
        Self::OldSmoke,
        Self::Start,
        Self::Gate,
        Self::Switch,
        Self::Bake,
        Self::Roles,
        Self::Drain,
        Self::Commit,
        Self::Settings,
        Self::Prune,
    ];

    /// The steps of a rollback: no backup, no migration, and above all no restore.
    pub const ROLLBACK: [Self; 7] =
        [Self::Start, Self::Gate, Self::Switch, Self::Bake, Self::Roles, Self::Drain, Self::Commit];

    /// Whether the step comes before the first that touches an instance or a slot of the edge: when it fails, nothing has
    /// to be put back, and before the first release there may be no edge yet that could be asked.
    #[must_use]
    pub const fn is_before_start(self) -> bool {
        matches!(self, Self::Pin | Self::Stores | Self::Backup | Self::Expand | Self::OldSmoke)
    }

    /// Whether the step comes after the point at which the new release has been proven: from here on a failure does not
    /// turn back by itself.
    #[must_use]
    pub const fn is_past_return(self) -> bool {
        matches!(self, Self::Drain | Self::Commit | Self::Settings | Self::Prune)
    }

    /// Whether the step writes down that the new release serves, or comes after that. Until then what is written down
    /// names the old one, which whoever asks for it can have back.
    #[must_use]
    pub const fn is_written_down(self) -> bool {
        matches!(self, Self::Commit | Self::Settings | Self::Prune)
    }

    /// Its name in the journal and in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Stores => "stores",
            Self::Backup => "backup",
            Self::Expand => "expand",
            Self::OldSmoke => "old_smoke",
            Self::Start => "start",
            Self::Gate => "gate",
            Self::Switch => "switch",
            Self::Bake => "bake",
            Self::Roles => "roles",
            Self::Drain => "drain",
            Self::Commit => "commit",
            Self::Settings => "settings",
            Self::Prune => "prune",
        }
    }

    /// What is done in it, for a plan.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Pin => "tag the image for this release, for ever",
            Self::Stores => "see that databases, broker and edge run",
            Self::Backup => "back up every region, in the region, and prove it",
            Self::Expand => "apply the pending expand migrations",
            Self::OldSmoke => "let the old release work on the new schema",
            Self::Start => "start the new release beside the old one",
            Self::Gate => "health, deep readiness, residency smoke test",
            Self::Switch => "give the new release a growing share of the requests",
            Self::Bake => "watch errors and latency with the old release still running",
            Self::Roles => "replace relay, forwarder and signer",
            Self::Drain => "let the old release finish and stop it",
            Self::Commit => "write down what serves",
            Self::Settings => "restart collector, Prometheus and Grafana where their settings changed",
            Self::Prune => "remove releases that nobody can want back",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
