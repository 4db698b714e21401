//! From a network address to evidence of a country: the weakest evidence there is, and treated so.
//!
//! - [`Forwarding`] finds the client's address behind trusted proxies, or says that it cannot.
//! - [`special`] recognises addresses that no database may be asked about.
//! - [`GeoIp`] asks a MaxMind DB file (GeoLite2, GeoIP2, iptoasn shapes) that passed the [load gate](Settings)
//!   and is replaced while running, never by a worse one.
//!
//! What comes out is a [`Finding`](residency::Finding): a place, or nothing and why.

mod database;
mod forwarding;
mod gate;
mod record;
mod reload;
mod special;
mod unpack;

pub use forwarding::{ClientAddress, Forwarding, ForwardingSource, HOPS_MAX};
pub use gate::{GateError, Reason, Settings, Source, Summary};
pub use reload::{GeoIp, Reload};
pub use special::special;
pub use unpack::DATABASE_BYTES_MAX;
