//! A throw-away world: everything a domicile needs around it, on one machine, gone when it is dropped.
//!
//! `domicile demo` and the system tests stand on the same world, so that what the tour shows is what the tests
//! prove. It starts real things wherever they can be had, each on loopback or a unix socket only:
//!
//! | piece | what it is | when it is not there |
//! | --- | --- | --- |
//! | [`Cluster`] | one PostgreSQL cluster per region and one for the directory | the world refuses to start |
//! | [`Broker`] | the `nisshi` Kafka-protocol broker, one per region | librdkafka's broker inside this process |
//! | [`Snowflake`] | `fakesnow` behind the real Snowflake client, one per region | the forwarder's local file |
//! | [`Gateway`] | the real `domicile` binary, `domicile serve` | the world refuses to start |
//!
//! Children die with the thread that keeps them ([`nursery`]), even when this process is killed.

mod broker;
mod builder;
mod client;
mod cluster;
mod config;
mod description;
mod found;
mod gateway;
pub mod inspect;
mod layout;
pub mod nursery;
mod ports;
mod progress;
mod snowflake;
pub mod tools;
mod warden;
mod world;

pub use broker::{Broker, Message, Storage};
pub use builder::Builder;
pub use client::{Answer, Client, Evidence};
pub use cluster::Cluster;
pub use config::{Keys, RegionPlan, RoleKey};
pub use forwarder::Row;
pub use gateway::Gateway;
pub use ports::free_port;
pub use progress::{Progress, Step};
pub use snowflake::Snowflake;
pub use warden::Warden;
pub use world::{RegionWorld, World};
