//! Asking an admin listener, without a client of HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::ANSWER_MAX;

/// How much of an answer is read.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// One request in the plainest form that there is.
pub(super) fn get(host: &str, port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect((host, port))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {host}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let garbled = || std::io::Error::new(std::io::ErrorKind::InvalidData, "the answer is not HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(garbled)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(garbled)?;
    Ok((status, body.to_owned()))
}
