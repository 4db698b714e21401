//! A body as lines: bounded, one at a time, never the whole.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;

/// The lines of a streamed body.
pub(crate) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// Where in the buffer no line's end has been looked for yet.
    searched: usize,
    /// Whether what comes is the rest of a line that was too long.
    skipping: bool,
    ended: bool,
    read_bytes: u64,
    number: u64,
    /// When the next line must be here, once it is waited for.
    due: Option<Instant>,
    limits: LineLimits,
}

/// The bounds of a streamed body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LineLimits {
    /// Bytes of one line.
    pub(crate) line_bytes_max: usize,
    /// Bytes of the whole body.
    pub(crate) bytes_max: u64,
    /// Time until the next line, however many bytes come meanwhile.
    pub(crate) read_max: Duration,
}

/// A line's number, from 1, and its bytes or what is wrong with it. After a fault of the body itself
/// there are no more lines.
pub(crate) type Numbered = (u64, Result<Bytes, Error>);

impl Lines {
    pub(crate) fn new(body: Body, limits: LineLimits) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
            skipping: false,
            ended: false,
            read_bytes: 0,
            number: 0,
            due: None,
            limits,
        }
    }

    /// The next line that is not blank; `None` behind the last. May be dropped and called again without loss.
    pub(crate) async fn next(&mut self) -> Option<Numbered> {
        loop {
            if let Some(line) = self.take_line() {
                if line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty()) {
                    continue;
                }
                self.due = None;
                return Some((self.number, line));
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.more().await {
                self.ended = true;
                self.buffer.clear();
                self.searched = 0;
                return Some((self.number + 1, Err(error)));
            }
        }
    }

    /// Stops the clock until the next line is asked for.
    pub(crate) fn pause(&mut self) {
        self.due = None;
    }

    /// A line that is in the buffer already.
    fn take_line(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n').map(|at| self.searched + at);
            let bytes_max = self.limits.line_bytes_max;
            match end {
                Some(end) => {
                    let mut line = self.buffer.split_to(end + 1);
                    line.truncate(end);
                    self.searched = 0;
                    if std::mem::take(&mut self.skipping) {
                        continue;
                    }
                    self.number += 1;
                    return Some(if end > bytes_max {
                        Err(Error::BodyTooLarge { bytes_max })
                    } else {
                        Ok(line.freeze())
                    });
                }
                None if self.skipping => {
                    self.buffer.clear();
                    self.searched = 0;
                    return None;
                }
                None if self.buffer.len() > bytes_max => {
                    self.buffer.clear();
                    self.searched = 0;
                    self.skipping = true;
                    self.number += 1;
                    return Some(Err(Error::BodyTooLarge { bytes_max }));
                }
                None if self.ended && !self.buffer.is_empty() => {
                    self.searched = 0;
                    self.number += 1;
                    return Some(Ok(self.buffer.split().freeze()));
                }
                None => {
                    self.searched = self.buffer.len();
                    return None;
                }
            }
        }
    }

    /// Waits for more bytes.
    async fn more(&mut self) -> Result<(), Error> {
        let read_max = self.limits.read_max;
        let due = *self.due.get_or_insert_with(|| Instant::now() + read_max);
        match timeout_at(due, self.body.frame()).await {
            Err(_) => Err(Error::BodyTooSlow { seconds: read_max.as_secs() }),
            Ok(None) => {
                self.ended = true;
                Ok(())
            }
            Ok(Some(Err(_))) => Err(Error::BodyUnreadable),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { return Ok(()) };
                self.read_bytes = self.read_bytes.saturating_add(data.len() as u64);
                if self.read_bytes > self.limits.bytes_max {
                    return Err(Error::BodyTooLarge {
                        bytes_max: usize::try_from(self.limits.bytes_max).unwrap_or(usize::MAX),
                    });
                }
                self.buffer.extend_from_slice(&data);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: Vec<Vec<u8>>, line_bytes_max: usize, bytes_max: u64) -> Lines {
        let chunks = chunks.into_iter().map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk)));
        let limits = LineLimits { line_bytes_max, bytes_max, read_max: Duration::from_secs(1) };
        Lines::new(Body::from_stream(stream::iter(chunks)), limits)
    }

    async fn all(mut lines: Lines) -> Vec<(u64, Option<String>)> {
        let mut seen = Vec::new();
        while let Some((number, line)) = lines.next().await {
            seen.push((number, line.ok().map(|line| String::from_utf8_lossy(&line).into_owned())));
        }
        seen
    }

    #[tokio::test]
    async fn lines_are_numbered_from_one_and_blank_ones_are_counted_but_skipped() {
        let seen = all(lines(vec![b"a\n\nb".to_vec(), b"c\r\n  \nd".to_vec()], 10, 100)).await;
        let expected = [(1, "a"), (3, "bc\r"), (5, "d")];
        assert_eq!(seen, expected.map(|(number, line)| (number, Some(line.to_owned()))));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_fails_alone_however_it_is_cut() {
        for cut in 1..12 {
            let whole = b"ok\n0123456789\nok".to_vec();
            let chunks = whole.chunks(cut).map(<[u8]>::to_vec).collect();
            let seen = all(lines(chunks, 4, 100)).await;
            assert_eq!(seen, [(1, Some("ok".to_owned())), (2, None), (3, Some("ok".to_owned()))], "cut {cut}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_ends_there() {
        let seen = all(lines(vec![b"a\nb\n".to_vec(), b"c\nd\n".to_vec()], 4, 6)).await;
        assert_eq!(seen, [(1, Some("a".to_owned())), (2, Some("b".to_owned())), (3, None)]);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_the_same_lines(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..60),
            cut in 1..8_usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let pieces = runtime.block_on(all(lines(bytes.chunks(cut).map(<[u8]>::to_vec).collect(), 8, 1_000)));
            let whole = runtime.block_on(all(lines(vec![bytes], 8, 1_000)));
            prop_assert_eq!(pieces, whole);
        }
    }
}
