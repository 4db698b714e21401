//! Free loopback ports.

use anyhow::{Result, bail};
use rand::Rng;
use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which systems hand out ports to outgoing connections, so that nothing takes one in between.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const TRIES_MAX: usize = 200;

/// A loopback TCP port on which nothing listens just now, chosen at random so that worlds that start at the same
/// time do not meet.
///
/// # Errors
/// When none was found in 200 tries.
pub(crate) fn free_port() -> Result<u16> {
    let mut rng = rand::rng();
    for _ in 0..TRIES_MAX {
        let port = rng.random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("No free TCP port was found on 127.0.0.1 between {} and {}", PORTS.start, PORTS.end)
}

/// A number for a PostgreSQL that listens on a unix socket only; it is a part of the socket's name.
pub(crate) fn socket_number() -> u16 {
    rand::rng().random_range(PORTS)
}
