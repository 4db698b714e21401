//! `demo.json`: every URL, connection string and key of a running world, for programs that want to look for themselves.

use crate::layout::write_private;
use crate::world::World;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

impl World {
    /// Writes `demo.json` into the world's folder, readable by its owner alone since it holds keys, and gives its path.
    /// The topics are those that exist now.
    ///
    /// # Errors
    /// When a broker does not answer or the file cannot be written.
    pub async fn write_description(&self) -> Result<PathBuf> {
        let mut regions = Map::new();
        for region in self.regions() {
            let described = json!({
                "jurisdiction": region.jurisdiction(),
                "postgres": region.superuser_dsn(),
                "brokers": region.broker.as_ref().map_or_else(String::new, |broker| broker.addresses()),
                "topics": region.topics().await?,
                "snowflake": region.snowflake.as_ref().map_or_else(String::new, |snowflake| snowflake.url()),
            });
            regions.insert(region.name().to_owned(), described);
        }
        let gateway = self.gateways().first();
        let whole = json!({
            "gateway": gateway.map_or("", |gateway| gateway.url()),
            "admin": gateway.map_or("", |gateway| gateway.admin_url()),
            "keys": self.keys(),
            "directory": { "postgres": self.directory_dsn() },
            "regions": Value::Object(regions),
        });
        let path = self.root().join("demo.json");
        write_private(&path, &serde_json::to_vec_pretty(&whole)?)?;
        Ok(path)
    }
}
