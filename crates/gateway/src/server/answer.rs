//! An answer on its way to its peer. Over HTTP/1 the socket shows whether the peer reads. Over HTTP/2 it does not: a peer that
//! answers pings but grants a stream no window leaves its answer with us, where nobody asks the body for more. So whoever
//! watches over the connection looks, now and then, whether each answer has come on since the last look.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};

/// The answers of one HTTP/2 connection.
#[derive(Default)]
pub(super) struct Answers {
    begun: AtomicU64,
    under_way: Mutex<BTreeMap<u64, Weak<Course>>>,
}

impl Answers {
    /// An answer that begins; `held` is dropped when its last byte has left, or nobody wants it any more.
    pub(super) fn begin(self: &Arc<Self>, held: impl Send + Sync + 'static) -> Arc<Course> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let course = Arc::new(Course {
            steps: AtomicU64::new(0),
            seen: AtomicU64::new(u64::MAX),
            awaits_us: AtomicBool::new(false),
            number,
            among: Arc::clone(self),
            _held: Box::new(held),
        });
        self.lock().insert(number, Arc::downgrade(&course));
        course
    }

    /// Whether there was ever one.
    pub(super) fn any(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0
    }

    /// Whether an answer waits for its peer and has not come on since the last look.
    pub(super) fn any_stands_still(&self) -> bool {
        // The lock is not held when they are let go: the last to let go of one takes it.
        let courses: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        // Each of them is looked at, also behind one that stands still.
        courses.iter().filter(|course| course.stands_still()).count() > 0
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Weak<Course>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far an answer has come.
pub(super) struct Course {
    /// Grows with everything that happens to it.
    steps: AtomicU64,
    /// As many as there were at the last look.
    seen: AtomicU64,
    /// Whether the next piece is ours to make, so that the peer cannot take it yet.
    awaits_us: AtomicBool,
    number: u64,
    among: Arc<Answers>,
    _held: Box<dyn Send + Sync>,
}

impl Course {
    fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    fn turns_to(&self, us: bool) {
        self.awaits_us.store(us, Ordering::Relaxed);
        self.step();
    }

    fn stands_still(&self) -> bool {
        let steps = self.steps.load(Ordering::Relaxed);
        self.seen.swap(steps, Ordering::Relaxed) == steps && !self.awaits_us.load(Ordering::Relaxed)
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        self.among.lock().remove(&self.number);
    }
}

/// An answer's body that knows when it is over.
pub(super) struct Tracked<U> {
    body: Body,
    way: Way<U>,
}

/// What stands for the answer until it is over.
pub(super) enum Way<U> {
    /// Over HTTP/1, where the socket's own clock is enough.
    Socket(U),
    /// Over HTTP/2.
    Stream(Arc<Course>),
}

impl<U> Tracked<U> {
    pub(super) fn new(body: Body, way: Way<U>) -> Self {
        Self { body, way }
    }
}

impl<U: Unpin> HttpBody for Tracked<U> {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        let Self { body, way } = &mut *self;
        let of = match way {
            Way::Socket(_) => None,
            Way::Stream(course) => Some(&*course),
        };
        if let Some(course) = of {
            course.turns_to(true);
        }
        let polled = Pin::new(body).poll_frame(cx);
        if let (Some(course), true) = (of, polled.is_ready()) {
            course.turns_to(false);
        }
        polled.map_ok(|frame| frame.map_data(|bytes| Piece { bytes, of: of.cloned() }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<U> Drop for Tracked<U> {
    fn drop(&mut self) {
        if let Way::Stream(course) = &self.way {
            course.turns_to(false);
        }
    }
}

/// A piece of a body, on its way.
pub(super) struct Piece {
    bytes: Bytes,
    /// Whose it is, where that is watched. Until the piece has left, its answer is under way.
    of: Option<Arc<Course>>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        if let Some(course) = &self.of {
            course.step();
        }
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        if let Some(course) = &self.of {
            course.step();
        }
        self.bytes.copy_to_bytes(count)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use futures::channel::mpsc;

    use super::*;

    /// An answer whose pieces are sent by hand.
    fn answer(answers: &Arc<Answers>) -> (mpsc::UnboundedSender<Result<Bytes, std::io::Error>>, Tracked<()>) {
        let (pieces, sent) = mpsc::unbounded();
        (pieces, Tracked::new(Body::from_stream(sent), Way::Stream(answers.begin(()))))
    }

    fn next(body: &mut Tracked<()>) -> Poll<Piece> {
        let polled = pin!(body).poll_frame(&mut Context::from_waker(Waker::noop()));
        polled.map(|frame| frame.expect("a frame").expect("no error").into_data().ok().expect("data"))
    }

    #[test]
    fn an_answer_that_nobody_takes_stands_still_and_one_that_we_still_make_does_not() {
        let answers = Arc::new(Answers::default());
        let look = || answers.any_stands_still();
        let (pieces, mut body) = answer(&answers);
        assert_eq!([look(), look()], [false, true], "nobody has asked for its body");

        assert!(next(&mut body).is_pending());
        assert_eq!([look(), look(), look()], [false, false, false], "there is nothing to take yet");

        pieces.unbounded_send(Ok(Bytes::from_static(b"four"))).unwrap();
        let Poll::Ready(mut piece) = next(&mut body) else { panic!("it is there") };
        assert!(!look());
        piece.advance(1);
        assert!(!look(), "a byte was taken");
        assert!(look(), "and none since");
    }

    #[test]
    fn an_answer_is_under_way_until_its_last_piece_has_left() {
        let answers = Arc::new(Answers::default());
        let (pieces, mut body) = answer(&answers);
        pieces.unbounded_send(Ok(Bytes::from_static(b"four"))).unwrap();
        let Poll::Ready(piece) = next(&mut body) else { panic!("it is there") };
        drop(body);
        assert_eq!([answers.any_stands_still(), answers.any_stands_still()], [false, true]);
        drop(piece);
        assert!(answers.any() && answers.lock().is_empty());
        assert!(!answers.any_stands_still());
    }
}
