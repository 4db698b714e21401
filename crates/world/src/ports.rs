//! Free loopback ports.

use anyhow::{Result, bail};
use rand::Rng;
use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Below the range from which systems hand out ports to outgoing connections, so that nothing takes one in between.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const TRIES_MAX: usize = 200;

/// The ports that were given out: whoever got one may not have begun to listen yet.
static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A loopback TCP port on which nothing listens just now. No other world of this process is given it; it is chosen at
/// random so that those of other processes do not meet it either.
///
/// # Errors
/// When none was found in 200 tries.
pub fn free_port() -> Result<u16> {
    let mut rng = rand::rng();
    for _ in 0..TRIES_MAX {
        let port = rng.random_range(PORTS);
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        let given = given.get_or_insert_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && given.insert(port) {
            return Ok(port);
        }
    }
    bail!("No free TCP port was found on 127.0.0.1 between {} and {}", PORTS.start, PORTS.end)
}

/// A number for a PostgreSQL that listens on a unix socket only; it is a part of the socket's name.
pub(crate) fn socket_number() -> u16 {
    rand::rng().random_range(PORTS)
}
