//! A witness (C2SP tlog-witness): somebody who remembers, for each log it knows, the largest tree it has seen, and
//! cosigns only what continues that. It learns sizes and hashes, and nothing of what a log says.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tlog::{AddCheckpoint, Checkpoint, Note, SigningKey, Verified, VerifierKey, verify_consistency};

use crate::signer::replace;

/// The most bytes of a request.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// A witness. What it has seen is in files of its own, one for each log.
pub struct Witness {
    key: SigningKey,
    logs: BTreeMap<String, VerifierKey>,
    folder: PathBuf,
    /// Comparing with what was seen last and remembering the new is one act.
    memory: Mutex<()>,
}

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub media: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    fn says(status: u16, sentence: &str) -> Self {
        Self { status, media: "text/plain; charset=utf-8", body: format!("{sentence}\n") }
    }
}

impl Witness {
    /// A witness of these logs, by their public keys. The folder must exist.
    #[must_use]
    pub fn new(key: SigningKey, logs: impl IntoIterator<Item = VerifierKey>, folder: impl Into<PathBuf>) -> Self {
        let logs = logs.into_iter().map(|log| (log.name().to_owned(), log)).collect();
        Self { key, logs, folder: folder.into(), memory: Mutex::new(()) }
    }

    /// Answers `add-checkpoint`; `now_s` is the time, seconds since 1970-01-01 UTC. It waits for the disk.
    pub fn add_checkpoint(&self, request: &str, now_s: u64) -> Answer {
        let Ok(request) = request.parse::<AddCheckpoint>() else {
            return Answer::says(400, "the request is not of the form of C2SP tlog-witness");
        };
        let mut note = request.checkpoint;
        let Ok(checkpoint) = note.text().parse::<Checkpoint>() else {
            return Answer::says(400, "the note is not a checkpoint");
        };
        let Some(log) = self.logs.get(&checkpoint.origin) else {
            return Answer::says(404, "the log is not known here");
        };
        if log.verify(&note) != Ok(Verified::Signed) {
            return Answer::says(403, "the checkpoint is not signed by the log's key");
        }
        if request.old_size > checkpoint.size {
            return Answer::says(400, "the old size is larger than the checkpoint's");
        }
        let _memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = match self.seen(log) {
            Ok(seen) => seen,
            Err(error) => return Answer::says(500, &format!("the memory cannot be read: {error}")),
        };
        let seen_size = seen.as_ref().map_or(0, |seen| seen.size);
        if request.old_size != seen_size {
            return Answer { status: 409, media: "text/x.tlog.size", body: format!("{seen_size}\n") };
        }
        let seen_root = seen.map_or_else(tlog::empty_root, |seen| seen.root);
        if seen_size == checkpoint.size && seen_root != checkpoint.root {
            return Answer { status: 409, media: "text/x.tlog.size", body: format!("{seen_size}\n") };
        }
        let proven =
            verify_consistency(seen_size, checkpoint.size, &request.hashes, &seen_root, &checkpoint.root).is_ok();
        if !proven {
            return Answer::says(422, "the checkpoint is not proven to continue what was seen before");
        }
        let signature = self.key.sign(note.text(), now_s);
        let line = format!("{signature}\n");
        note.add(signature);
        if let Err(error) = replace(&self.file(log), note.to_string().as_bytes()) {
            return Answer::says(500, &format!("the memory cannot be written: {error}"));
        }
        Answer { status: 200, media: "text/plain; charset=utf-8", body: line }
    }

    /// The largest checkpoint of a log that was cosigned.
    fn seen(&self, log: &VerifierKey) -> io::Result<Option<Checkpoint>> {
        let text = match std::fs::read_to_string(self.file(log)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let foreign = || io::Error::other("it holds no checkpoint of this log under this witness's signature");
        let note: Note = text.parse().map_err(|_| foreign())?;
        self.key.public().verify(&note).map_err(|_| foreign())?;
        let checkpoint: Checkpoint = note.text().parse().map_err(|_| foreign())?;
        if checkpoint.origin == log.name() { Ok(Some(checkpoint)) } else { Err(foreign()) }
    }

    /// An origin may hold slashes and more; its hash does not.
    fn file(&self, log: &VerifierKey) -> PathBuf {
        self.folder.join(format!("{}.checkpoint", hex::encode(Sha256::digest(log.name()))))
    }
}

#[cfg(test)]
mod tests {
    use tlog::{Hash, KeyKind, consistency_proof, leaf_hash, root_of};

    use super::*;

    const ORIGIN: &str = "eu-central.log.example.com";

    fn log() -> SigningKey {
        SigningKey::new(ORIGIN, KeyKind::Log, &[1; 32]).expect("a key")
    }

    fn witness(folder: &std::path::Path) -> Witness {
        let key = SigningKey::new("witness.example/w1", KeyKind::Witness, &[2; 32]).expect("a key");
        Witness::new(key, [log().public().clone()], folder)
    }

    fn leaves(count: u8) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&[n])).collect()
    }

    fn request(key: &SigningKey, old: u8, leaves: &[Hash]) -> String {
        let checkpoint = Checkpoint::new(key.public().name(), leaves.len() as u64, root_of(leaves));
        let mut note = Note::new(checkpoint.to_string()).expect("a note");
        let signature = key.sign(note.text(), 0);
        note.add(signature);
        let hashes = consistency_proof(leaves, usize::from(old)).unwrap_or_default();
        AddCheckpoint { old_size: u64::from(old), hashes, checkpoint: note }.to_string()
    }

    #[test]
    fn what_continues_is_cosigned_and_remembered_over_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = witness(folder.path()).add_checkpoint(&request(&log(), 0, &leaves(5)), 1_000);
        assert_eq!(first.status, 200, "{}", first.body);
        let again = witness(folder.path());
        let body = request(&log(), 5, &leaves(9));
        let answer = again.add_checkpoint(&body, 2_000);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let request: AddCheckpoint = body.parse().expect("a request");
        let cosigned: Note = format!("{}{}", request.checkpoint, answer.body).parse().expect("a note");
        assert_eq!(again.key.public().verify(&cosigned), Ok(Verified::Cosigned { at_s: 2_000 }));
        // The same size again is answered again: the log may not have got the answer.
        assert_eq!(again.add_checkpoint(&self::request(&log(), 9, &leaves(9)), 2_001).status, 200);
    }

    #[test]
    fn what_does_not_continue_is_refused_by_the_specifications_codes() {
        let folder = tempfile::tempdir().expect("a folder");
        let witness = witness(folder.path());
        assert_eq!(witness.add_checkpoint(&request(&log(), 0, &leaves(5)), 1).status, 200);
        // Another old size: told which one is known.
        for old in [0, 4] {
            let answer = witness.add_checkpoint(&request(&log(), old, &leaves(9)), 2);
            assert_eq!((answer.status, answer.media, answer.body.as_str()), (409, "text/x.tlog.size", "5\n"));
        }
        // A log that went back, or was rewritten.
        assert_eq!(witness.add_checkpoint(&request(&log(), 3, &leaves(3)), 2).status, 409);
        let mut rewritten = leaves(9);
        rewritten[2] = leaf_hash(b"other");
        assert_eq!(witness.add_checkpoint(&request(&log(), 5, &rewritten), 2).status, 422);
        // The same size with another root: a split view.
        assert_eq!(witness.add_checkpoint(&request(&log(), 5, &rewritten[..5]), 2).status, 409);
        // Unknown logs, foreign keys, false sizes, junk.
        let unknown = SigningKey::new("other.log", KeyKind::Log, &[1; 32]).expect("a key");
        assert_eq!(witness.add_checkpoint(&request(&unknown, 0, &leaves(5)), 2).status, 404);
        let forger = SigningKey::new(ORIGIN, KeyKind::Log, &[9; 32]).expect("a key");
        assert_eq!(witness.add_checkpoint(&request(&forger, 5, &leaves(9)), 2).status, 403);
        let larger = request(&log(), 5, &leaves(9)).replacen("old 5", "old 10", 1);
        assert_eq!(witness.add_checkpoint(&larger, 2).status, 400);
        for junk in ["", "old 5", "old 5\n\n", "old x\n\nnote"] {
            assert_eq!(witness.add_checkpoint(junk, 2).status, 400, "{junk:?}");
        }
        // After all that it still knows what it knew.
        assert_eq!(witness.add_checkpoint(&request(&log(), 5, &leaves(6)), 3).status, 200);
    }

    #[test]
    fn a_memory_that_was_tampered_with_is_not_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let witness = witness(folder.path());
        assert_eq!(witness.add_checkpoint(&request(&log(), 0, &leaves(5)), 1).status, 200);
        std::fs::write(witness.file(log().public()), "gone").expect("written");
        assert_eq!(witness.add_checkpoint(&request(&log(), 0, &leaves(3)), 2).status, 500);
    }
}
