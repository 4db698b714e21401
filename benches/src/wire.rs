//! HTTP/1.1 with nothing around it: requests that are bytes already, answers of which only what is needed is read.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

/// An answer of the gateway to one record or one refusal is smaller than this.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 48;

/// What is known of an answer when it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Head and body.
    pub(crate) bytes: usize,
    /// Whether the server closes the connection after it.
    pub(crate) closes: bool,
}

/// The answer that `bytes` begin with, if it is whole. Its length must be said beforehand.
pub(crate) fn answer(bytes: &[u8]) -> Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = head.parse(bytes)? else {
        ensure!(bytes.len() <= ANSWER_BYTES_MAX, "an answer's head does not end");
        return Ok(None);
    };
    let header = |name: &str| {
        let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let body: usize = header("content-length").context("an answer without its length")?.parse()?;
    let closes = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let whole = Answer { status: head.code.unwrap_or(0), bytes: head_bytes + body, closes };
    Ok((bytes.len() >= whole.bytes).then_some(whole))
}

/// The address in `http://127.0.0.1:23456`.
pub(crate) fn address(url: &str) -> Result<SocketAddr> {
    url.trim_start_matches("http://").parse().with_context(|| format!("{url} is no address"))
}

/// One connection that waits: the least that a client can do.
pub(crate) struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Line {
    pub(crate) fn open(url: &str) -> Result<Self> {
        let stream = TcpStream::connect(address(url)?)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; ANSWER_BYTES_MAX] })
    }

    /// Sends a request and reads its answer, which must be a success.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request)?;
        let mut held = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[held..])?;
            ensure!(read > 0, "the gateway hung up");
            held += read;
            if let Some(answer) = answer(&self.buffer[..held])? {
                if !(200..300).contains(&answer.status) {
                    bail!("{}", String::from_utf8_lossy(&self.buffer[..held]));
                }
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let text = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nconnection: close\r\n\r\nbusy";
        let whole = Answer { status: 503, bytes: text.len(), closes: true };
        assert_eq!(answer(text).expect("it can be read"), Some(whole));
        assert_eq!(answer(&text[..text.len() - 1]).expect("it can be read"), None);
        assert_eq!(answer(&text[..20]).expect("it can be read"), None);
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "a length that nobody said");
        assert!(answer(b"SMTP").is_err());
    }
}
