//! A database in memory: every network walked and every record read once, so that a request only looks up.

use std::collections::HashMap;
use std::net::IpAddr;

use maxminddb::{Reader, WithinOptions};
use residency::Nothing;
use sha2::{Digest, Sha256};

use crate::gate::{Reason, Summary};
use crate::record::{Answer, answer};

/// IPv4 addresses outside the special ranges, about: 2^32 without multicast, reserved, private and their like.
const PUBLIC_IPV4_ADDRESSES: u64 = (1 << 32) - (1 << 29) - 3 * (1 << 24) - (1 << 22) - (1 << 20);

/// A database that was read whole. It is not yet said to be good: that is the gate's.
#[derive(Debug)]
pub(crate) struct Database {
    reader: Reader<Vec<u8>>,
    /// Place of a record in the data section -> what it says.
    answers: HashMap<usize, Answer>,
    summary: Summary,
}

impl Database {
    /// Opens the bytes and reads every record.
    pub(crate) fn open(bytes: Vec<u8>) -> Result<Self, Reason> {
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        let broken = |error: maxminddb::MaxMindDbError| Reason::Broken(error.to_string());
        let reader = Reader::from_source(bytes).map_err(broken)?;

        // Each leaf comes once, those without data too, so that a tree whose branches grow together is noticed by its
        // count instead of being walked for ever: a binary tree has one leaf more than nodes, and twice is generous.
        let leaves_max = 2 * (u64::from(reader.metadata().node_count) + 1);
        let mut answers = HashMap::new();
        let (mut leaves, mut networks, mut placed_ipv4) = (0u64, 0u64, 0u64);
        for leaf in reader.networks(WithinOptions::default().include_networks_without_data()).map_err(broken)? {
            let leaf = leaf.map_err(broken)?;
            leaves += 1;
            if leaves > leaves_max {
                return Err(Reason::Broken("the branches of the search tree grow together".to_owned()));
            }
            let Some(offset) = leaf.offset() else { continue };
            networks += 1;
            let said = match answers.get(&offset) {
                Some(said) => *said,
                None => *answers.entry(offset).or_insert(answer(&leaf).map_err(broken)?),
            };
            if let Answer::Place(_) = said {
                placed_ipv4 = placed_ipv4.saturating_add(ipv4_addresses(&leaf).map_err(broken)?);
            }
        }
        let metadata = reader.metadata();
        let summary = Summary {
            database_type: metadata.database_type.chars().filter(|c| !c.is_control()).take(80).collect(),
            built_s: metadata.build_epoch,
            networks,
            records: u64::try_from(answers.len()).unwrap_or(u64::MAX),
            coverage_percent: u8::try_from((placed_ipv4 * 100 / PUBLIC_IPV4_ADDRESSES).min(100)).unwrap_or(100),
            sha256,
        };
        Ok(Self { reader, answers, summary })
    }

    /// What it says of an address. Special addresses are none of its business: ask [`special`](crate::special) first.
    pub(crate) fn find(&self, ip: IpAddr) -> Answer {
        let offset = self.reader.lookup(ip).ok().and_then(|found| found.offset());
        offset.and_then(|offset| self.answers.get(&offset)).copied().unwrap_or(Answer::Nothing(Nothing::UnknownNetwork))
    }

    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }
}

fn ipv4_addresses(leaf: &maxminddb::LookupResult<'_, Vec<u8>>) -> Result<u64, maxminddb::MaxMindDbError> {
    let network = leaf.network()?;
    Ok(if network.is_ipv4() { 1 << (32 - u32::from(network.prefix().min(32))) } else { 0 })
}
