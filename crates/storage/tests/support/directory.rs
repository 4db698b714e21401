//! Directories for tests.

use secrecy::SecretString;
use storage::admin;

use crate::support::Cluster;

/// A directory in a database of its own.
pub(crate) async fn shared_with_directory() -> (Cluster, SecretString) {
    let cluster = Cluster::shared();
    let name = cluster.unused("directory");
    with_directory(cluster, &name).await
}

/// A directory on a server of its own, which may be stopped or given roles.
pub(crate) async fn cluster_with_directory() -> (Cluster, SecretString) {
    with_directory(Cluster::start_new(), "directory").await
}

async fn with_directory(cluster: Cluster, name: &str) -> (Cluster, SecretString) {
    admin::create_database_if_absent(&cluster.dsn("postgres").into(), name).await.expect("a database");
    let dsn = SecretString::from(cluster.dsn(name));
    admin::migrate_directory(&dsn, &|_| {}).await.expect("a directory");
    (cluster, dsn)
}
