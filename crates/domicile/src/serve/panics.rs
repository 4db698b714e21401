//! What is told of a panic: where it was, and not what it said.
//!
//! A panic's message may hold what was being worked on: slicing a text in the middle of a character, or
//! unwrapping an error, quotes it. The standard hook would write that to standard error, past every filter.

use std::panic::{self, Location, PanicHookInfo};

use tracing::error;

/// Replaces the hook for the rest of the process.
pub(super) fn tell_only_where() {
    panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| report(info.location())));
}

fn report(location: Option<&Location<'_>>) {
    match location {
        Some(at) => error!("A task panicked at {}:{}:{}; this is a bug", at.file(), at.line(), at.column()),
        None => error!("A task panicked; this is a bug"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_tells_where_it_was_and_not_what_it_said() {
        // While there is only one subscriber in a process, a thread without any can decide for all that a line is not to
        // be heard (tracing-core, `Rebuilder::JustOne`); the tests beside this one are such threads.
        let _second = tracing::Dispatch::new(tracing_subscriber::registry());
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let usual = panic::take_hook();
        tell_only_where();
        let outcome = tracing::subscriber::with_default(subscriber, || {
            panic::catch_unwind(|| {
                let name = "änna@example.org";
                name[1..].len()
            })
        });
        panic::set_hook(usual);
        assert!(outcome.is_err(), "a text cut in the middle of a character");
        let said = String::from_utf8_lossy(&lines.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
        assert!(said.contains(file!()), "{said}");
        assert!(!said.contains("nna@example.org"), "{said}");
    }
}
