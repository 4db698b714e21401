//! The verifier that PostgreSQL stores instead of a password (SCRAM-SHA-256: RFC 5802, RFC 7677),
//! made on our side, so that the password itself never travels in a statement.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// PostgreSQL's own number of iterations.
const ITERATIONS: u32 = 4_096;

/// The verifier of a password, as `ALTER ROLE … PASSWORD` takes it. `None` for a password that is not 12 to 256
/// printable ASCII characters: others would need SASLprep (RFC 4013).
pub(super) fn verifier(password: &str, salt: &[u8; 16]) -> Option<String> {
    let usable = (12..=256).contains(&password.len()) && password.bytes().all(|b| (b' '..=b'~').contains(&b));
    if !usable {
        return None;
    }
    let salted = salted_password(password.as_bytes(), salt);
    let stored_key = Sha256::digest(mac(&salted, &[b"Client Key"]));
    let server_key = mac(&salted, &[b"Server Key"]);
    Some(format!(
        "SCRAM-SHA-256${ITERATIONS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(server_key)
    ))
}

/// `Hi` of RFC 5802, section 2.2: PBKDF2 with one block of output.
fn salted_password(password: &[u8], salt: &[u8]) -> [u8; 32] {
    let mut last = mac(password, &[salt, &1_u32.to_be_bytes()]);
    let mut all = last;
    for _ in 1..ITERATIONS {
        last = mac(password, &[&last]);
        for (into, from) in all.iter_mut().zip(last) {
            *into ^= from;
        }
    }
    all
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { unreachable!("HMAC takes a key of any length") };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_computes_the_salted_password_of_rfc_7677() {
        // RFC 7677, section 3: user `user`, password `pencil`; the client's proof follows from the stored key.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("the RFC's salt");
        let salted = salted_password(b"pencil", &salt);
        let client_key = mac(&salted, &[b"Client Key"]);
        let stored_key = Sha256::digest(client_key);
        let auth = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = mac(&stored_key, &[auth.as_bytes()]);
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signed)| key ^ signed).collect();
        assert_eq!(STANDARD.encode(proof), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    }

    #[test]
    fn a_password_that_would_need_preparation_is_not_taken() {
        for bad in ["short", "elevenchars", "with\nnewline in it", "pässwörter sind lang", &"x".repeat(257)] {
            assert_eq!(verifier(bad, &[0; 16]), None, "{bad}");
        }
        assert!(verifier("twelve chars", &[0; 16]).is_some());
    }
}
