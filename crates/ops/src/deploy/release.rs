//! A release: one image, pinned by a tag of its own, with what it can do written down once and for ever.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a release: `rel-7`. Numbers are given in order and never again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId(pub u64);

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rel-{}", self.0)
    }
}

impl From<ReleaseId> for String {
    fn from(id: ReleaseId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for ReleaseId {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let number = name.strip_prefix("rel-").and_then(|digits| digits.parse().ok());
        number.map(Self).ok_or_else(|| format!("{name:?} is no release; they are called rel-1, rel-2 and so on"))
    }
}

impl std::str::FromStr for ReleaseId {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        name.to_owned().try_into()
    }
}

/// What a program says about itself: `domicile version --json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// Its version, e.g. `0.1.0`.
    pub version: String,
    /// The level of its schema, for each set of migrations.
    pub levels: BTreeMap<String, i64>,
}

/// `releases/<rel>.json`: written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its name.
    pub release: ReleaseId,
    /// The image's own identity: a digest.
    pub image_id: String,
    /// What it was called when it was deployed, e.g. `myapp:prod`.
    pub reference: String,
    /// The tag that keeps it, e.g. `myapp:rel-7-3e9d61c4-domicile`; without the cell where an older deployer made it.
    pub tag: String,
    /// What the program in it can do.
    pub abilities: Abilities,
    /// When it was pinned, RFC 3339.
    pub pinned_at: String,
}

/// What of a cell's name a tag holds, in letters: a tag has at most 128.
const CELL_LETTERS_MAX: usize = 64;

/// The tag that keeps an image for a release of a cell: never moved, never reused, and no other cell's on this host.
#[must_use]
pub fn tag_of(project: &str, reference: &str, release: ReleaseId, image_id: &str) -> String {
    // A colon before the last slash is a registry's port.
    let repository = match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => reference,
    };
    let digest = image_id.rsplit(':').next().unwrap_or(image_id);
    let short = digest.get(..8).unwrap_or(digest);
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' };
    let cell: String = project.chars().map(plain).take(CELL_LETTERS_MAX).collect();
    format!("{repository}:{release}-{short}-{cell}")
}

/// A process or container that runs a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The runtime's own name for it: a container's id, a process's file.
    pub id: String,
    /// The tag it was made from.
    pub tag: String,
    /// The address it takes requests on, e.g. `172.18.0.5`.
    pub address: String,
    /// The port it takes requests on.
    pub port: u16,
    /// The port of its admin listener, on the same address.
    pub admin_port: u16,
}

/// A release and what runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Which.
    pub release: ReleaseId,
    /// The tag it runs from.
    pub tag: String,
    /// Its instances.
    pub instances: Vec<Instance>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_release_image_and_cell_and_keeps_the_registry() {
        let id = "sha256:3e9d61c4aa";
        assert_eq!(tag_of("eu", "myapp:prod", ReleaseId(42), id), "myapp:rel-42-3e9d61c4-eu");
        assert_eq!(tag_of("a cell", "myapp", ReleaseId(1), "abc"), "myapp:rel-1-abc-a-cell");
        assert_eq!(tag_of("eu", "host:5000/team/myapp", ReleaseId(2), id), "host:5000/team/myapp:rel-2-3e9d61c4-eu");
    }

    #[test]
    fn a_release_is_ordered_by_its_number_and_not_by_its_letters() {
        let parse = |name: &str| name.parse::<ReleaseId>();
        assert!(parse("rel-10").expect("a name") > parse("rel-9").expect("a name"));
        assert!(parse("10").is_err() && parse("rel-").is_err());
    }
}
