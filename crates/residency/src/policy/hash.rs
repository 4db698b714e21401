//! The hash by which a log names a policy. It covers the table and both presets, since a decision follows from all
//! three: whoever changed a country's row would change decisions without touching the table.

use sha2::{Digest, Sha256};

/// The hashes of a policy and of what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyHashes {
    /// The one that decisions name: SHA-256 over the line `domicile/policy/v2` and the three hashes below in hex, each on
    /// a line of its own, every line ended by a line feed.
    pub policy: [u8; 32],
    /// SHA-256 of the table's text. Decisions before 2026-12 name the policy by this one.
    pub text: [u8; 32],
    /// SHA-256 of the table of jurisdictions.
    pub jurisdictions: [u8; 32],
    /// SHA-256 of the table of locations.
    pub locations: [u8; 32],
}

impl PolicyHashes {
    /// The hashes of these texts.
    #[must_use]
    pub fn of(text: &str, jurisdictions: &str, locations: &str) -> Self {
        let [text, jurisdictions, locations] =
            [text, jurisdictions, locations].map(|part| <[u8; 32]>::from(Sha256::digest(part.as_bytes())));
        let mut all = Sha256::new();
        all.update(b"domicile/policy/v2\n");
        for part in [text, jurisdictions, locations] {
            all.update(hex::encode(part).as_bytes());
            all.update(b"\n");
        }
        Self { policy: all.finalize().into(), text, jurisdictions, locations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_policy_is_what_two_lines_of_shell_make_of_its_files() {
        // h() { printf "$1" | sha256sum | cut -d' ' -f1; }; printf 'domicile/policy/v2\n%s\n%s\n%s\n' $(h a) $(h b) $(h c) | sha256sum
        let hashes = PolicyHashes::of("a", "b", "c");
        assert_eq!(hex::encode(hashes.policy), "2d81ecf3ccf22afda9b1bc9b29b37f9e748705bac16685bfd5f8ac1407634ea1");
    }

    #[test]
    fn every_part_changes_it() {
        let hash = |a, b, c| PolicyHashes::of(a, b, c).policy;
        let all = [hash("a", "b", "c"), hash("x", "b", "c"), hash("a", "x", "c"), hash("a", "b", "x")];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == one), Some(at));
        }
    }
}
