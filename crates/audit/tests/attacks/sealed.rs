//! Packs encrypted to the auditor.

use std::fs::File;
use std::path::Path;

use age::secrecy::ExposeSecret as _;
use audit::pack::{Identities, Pack, Wanted, write_pack};
use audit::verify::Expected;
use sha2::{Digest as _, Sha256};

use crate::stage::{Stage, audit, clean, key};

fn keep(path: &Path, identity: &age::x25519::Identity) {
    std::fs::write(path, format!("# created for a test\n{}\n", identity.to_string().expose_secret())).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_for_two_auditors_opens_with_each_of_their_keys_and_with_no_other() {
    let stage = Stage::with(300).await;
    let [anna, ben, mallory] = std::array::from_fn(|_| age::x25519::Identity::generate());
    let path = stage.file("sealed.zip.age");
    let recipients = [&anna, &ben].map(|identity| identity.to_public().to_string().parse().unwrap()).to_vec();
    let wanted = Wanted { range: 0..u64::MAX, recipients, ..Wanted::default() };
    let packed = Box::pin(write_pack(&stage.log(), &wanted, File::create(&path).unwrap(), |_, _| {})).await.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((packed.bytes, packed.sha256), (bytes.len() as u64, Sha256::digest(&bytes).into()));
    assert!(bytes.starts_with(b"age-encryption.org/v1"));
    assert!(
        !bytes.windows(10).any(|window| window == b"verify.py\0" || window == b"key:test\","),
        "nothing of it can be read"
    );
    for identity in [&anna, &ben] {
        keep(&stage.file("identity"), identity);
        let identities = Identities::read(&stage.file("identity")).unwrap();
        let report =
            audit(Pack::open_with(&path, &identities).unwrap(), Expected::of_key(key().public().clone())).await;
        clean(&report);
        assert_eq!(report.leaves, 300);
    }
    let refused = Pack::open(&path).err().unwrap().to_string();
    assert!(refused.contains("--identity"), "{refused}");
    keep(&stage.file("identity"), &mallory);
    let identities = Identities::read(&stage.file("identity")).unwrap();
    assert!(Pack::open_with(&path, &identities).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_an_encrypted_pack_with_a_byte_changed_or_cut_off_does_not_open() {
    let stage = Stage::with(300).await;
    let identity = age::x25519::Identity::generate();
    keep(&stage.file("identity"), &identity);
    let identities = Identities::read(&stage.file("identity")).unwrap();
    let path = stage.file("sealed.zip.age");
    let wanted = Wanted {
        range: 0..u64::MAX,
        recipients: vec![identity.to_public().to_string().parse().unwrap()],
        ..Wanted::default()
    };
    Box::pin(write_pack(&stage.log(), &wanted, File::create(&path).unwrap(), |_, _| {})).await.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 23) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert!(Pack::open_with(&path, &identities).is_err(), "changed at {at}");
        std::fs::write(&path, &bytes[..at]).unwrap();
        assert!(Pack::open_with(&path, &identities).is_err(), "cut at {at}");
    }
}

#[test]
fn what_is_no_key_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity");
    for (text, says) in
        [("", "no age secret key"), ("# only a comment\n", "no age secret key"), ("#\nAGE-SECRET-KEY-1X\n", "line 2")]
    {
        std::fs::write(&path, text).unwrap();
        let refused = Identities::read(&path).err().unwrap().to_string();
        assert!(refused.contains(says), "{refused}");
    }
    for text in ["", "age1", "age1qqqq", "ssh-ed25519 AAAA"] {
        assert!(text.parse::<audit::pack::Recipient>().is_err(), "{text}");
    }
}
