//! API keys against a real PostgreSQL: shown once, stored hashed, revoked everywhere within two seconds.

#[path = "support/directory.rs"]
mod founded;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use founded::{cluster_with_directory, shared_with_directory};
use residency::Tenant;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection, PgConnection, Row};
use storage::admin::{self, LoginName, Membership};
use storage::{
    ApiKeys, Caller, Directory, DirectorySettings, Error, KEYS_REFRESH_INTERVAL, KEYS_STALE_MAX, KeysError, Pepper,
    Peppers,
};
use support::{PATIENCE, eventually, patient};

/// The keys as one gateway, or one operator, sees them.
fn keys(dsn: &SecretString) -> ApiKeys {
    let peppers = Peppers::new(Pepper::new(1, &[1; 32]).expect("a pepper"), vec![]);
    let settings = DirectorySettings { dsn: dsn.clone(), peppers, cache_pins_max: 10, limits: patient() };
    Directory::open(settings).keys()
}

/// Whom a token stands for. A gateway that could not read the keys for some seconds says so instead of guessing: then it
/// is asked again.
async fn find(gateway: &ApiKeys, token: &str) -> Option<Arc<Caller>> {
    let begun = Instant::now();
    loop {
        match gateway.find(token).await {
            Ok(found) => return found,
            Err(Error::Unavailable { region: None, .. }) if begun.elapsed() < PATIENCE => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// Waits until a gateway accepts a key that was just made: it may have read the keys a moment before.
async fn accepted(gateway: &ApiKeys, token: &str) {
    eventually("the key is accepted", async || find(gateway, token).await.is_some()).await;
}

async fn run(dsn: &SecretString, statement: &'static str) -> Vec<sqlx::postgres::PgRow> {
    let mut connection = PgConnection::connect(dsn.expose_secret()).await.expect("a connection");
    sqlx::query(statement).fetch_all(&mut connection).await.expect("a statement that works")
}

#[tokio::test]
async fn a_new_key_opens_the_door_at_every_gateway_and_a_wrong_one_at_none() {
    let (_cluster, dsn) = shared_with_directory().await;
    let (operator, gateway) = (keys(&dsn), keys(&dsn));
    let tenant = Tenant::new("acme").expect("a tenant");
    let made = operator.create("checkout", &["records:write", "records:read"], Some(&tenant)).await.expect("a key");
    let token = made.token.expose_secret();

    accepted(&gateway, token).await;
    let caller = find(&gateway, token).await.expect("a caller");
    assert_eq!((caller.id.as_str(), caller.name.as_str()), (made.id.as_str(), "checkout"));
    assert_eq!(caller.scopes, ["records:read", "records:write"]);
    assert_eq!(caller.tenant, Some(tenant));

    let other = operator.create("other", &["metrics"], None).await.expect("a key");
    let wrong_secret = format!("{}{}", &token[..17], &other.token.expose_secret()[17..]);
    let wrong_id = format!("dom_{}{}", "A".repeat(12), &token[16..]);
    for wrong in [wrong_secret.as_str(), &wrong_id, "", "dom_", "Bearer x", &token[..token.len() - 1]] {
        assert_eq!(find(&gateway, wrong).await, None, "{wrong}");
    }
}

#[tokio::test]
async fn only_a_hash_of_the_secret_rests_in_the_directory() {
    let (cluster, dsn) = shared_with_directory().await;
    let made = keys(&dsn).create("checkout", &["metrics"], None).await.expect("a key");
    let row: String = run(&dsn, "SELECT k::text FROM domicile.api_keys AS k").await[0].get(0);
    let secret = &made.token.expose_secret()[17..];
    assert!(row.contains(&made.id) && !row.contains(secret), "{row}");
    assert!(!cluster.log().contains(secret));
    assert!(!format!("{made:?}").contains(secret));
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_two_seconds() {
    let (_cluster, dsn) = shared_with_directory().await;
    let (operator, gateway) = (keys(&dsn), keys(&dsn));
    let made = operator.create("checkout", &["metrics"], None).await.expect("a key");
    let token = made.token.expose_secret();
    accepted(&gateway, token).await;

    assert_eq!(operator.revoke(&made.id).await, Ok(true));
    // The two seconds are the keys' next reading, which is due in less, and the query, which takes as long as it takes.
    const { assert!(KEYS_REFRESH_INTERVAL.as_millis() < 2_000) };
    eventually("the revoked key is refused", async || find(&gateway, token).await.is_none()).await;
    assert_eq!(operator.revoke(&made.id).await, Ok(false), "revoking twice is no mistake");
    assert_eq!(operator.revoke("nosuchkey000").await, Err(KeysError::NotFound));

    // The audit log names callers by their keys' names, so the name is free only now.
    let again = operator.create("checkout", &["metrics"], None).await.expect("the name is free again");
    let listed = operator.list().await.expect("a list");
    assert_eq!(listed.len(), 2);
    assert_eq!((listed[0].id.as_str(), listed[0].revoked_at_us), (again.id.as_str(), None));
    assert!(listed[1].revoked_at_us.is_some_and(|revoked_at_us| revoked_at_us >= listed[1].created_at_us));
}

#[tokio::test]
async fn a_mistake_is_answered_by_what_is_wrong() {
    let (_cluster, dsn) = shared_with_directory().await;
    let keys = keys(&dsn);
    keys.create("checkout", &["metrics"], None).await.expect("a key");
    assert_eq!(keys.create("checkout", &["metrics"], None).await.expect_err("twice"), KeysError::NameTaken);
    assert_eq!(keys.create("check out", &["metrics"], None).await.expect_err("a blank"), KeysError::Name);
    assert_eq!(keys.create("", &["metrics"], None).await.expect_err("no name"), KeysError::Name);
    assert_eq!(keys.create("other", &[], None).await.expect_err("no scope"), KeysError::Scopes);
    assert_eq!(keys.create("other", &["All of them"], None).await.expect_err("no scope"), KeysError::Scopes);
}

#[tokio::test]
async fn a_gateway_cannot_make_itself_a_key() {
    let (cluster, dsn) = cluster_with_directory().await;
    let login = LoginName::new("gateway").expect("a name");
    admin::create_login_role(&dsn, &login, None, &[Membership::Directory]).await.expect("a login");
    let made = keys(&dsn).create("checkout", &["metrics"], None).await.expect("a key");

    let gateway = keys(&cluster.dsn_as("gateway", "directory").into());
    accepted(&gateway, made.token.expose_secret()).await;
    assert_eq!(gateway.create("mine", &["metrics"], None).await.expect_err("no right"), KeysError::NotAllowed);
    assert_eq!(gateway.revoke(&made.id).await, Err(KeysError::NotAllowed));

    let keeper = LoginName::new("keeper").expect("a name");
    admin::create_login_role(&dsn, &keeper, None, &[Membership::Keys]).await.expect("a login");
    let keeper = keys(&cluster.dsn_as("keeper", "directory").into());
    assert_eq!(keeper.revoke(&made.id).await, Ok(true));
}

#[tokio::test]
async fn known_keys_outlive_an_outage_and_unknown_ones_are_neither_accepted_nor_called_wrong() {
    let (cluster, dsn) = cluster_with_directory().await;
    let gateway = keys(&dsn);
    let known = gateway.create("known", &["metrics"], None).await.expect("a key");
    accepted(&gateway, known.token.expose_secret()).await;
    let unseen = keys(&dsn).create("unseen", &["metrics"], None).await.expect("a key");
    let last_read = Instant::now();
    cluster.stop();

    // As long as the last reading is fresh, what it does not hold is unknown for sure; then nobody can say any more.
    let unknown = format!("dom_{}{}", "A".repeat(12), &known.token.expose_secret()[16..]);
    eventually("the unknown key cannot be judged", async || match gateway.find(&unknown).await {
        Ok(found) => {
            assert_eq!(found, None);
            false
        }
        Err(error) => {
            assert!(matches!(error, Error::Unavailable { region: None, .. }), "{error}");
            true
        }
    })
    .await;
    let still_known = gateway.find(known.token.expose_secret()).await;
    // A machine that took a minute to get here has outlived the promise.
    assert!(
        matches!(still_known, Ok(Some(_))) || last_read.elapsed() + KEYS_REFRESH_INTERVAL > KEYS_STALE_MAX,
        "{still_known:?}"
    );
    // A gateway that starts during the outage has nothing to go by.
    let answer = keys(&dsn).find(known.token.expose_secret()).await;
    assert!(matches!(answer, Err(Error::Unavailable { region: None, .. })), "{answer:?}");

    cluster.start();
    eventually("the gateway recovers", async || find(&gateway, unseen.token.expose_secret()).await.is_some()).await;
    assert_eq!(find(&gateway, &unknown).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unknown_keys_cannot_hammer_the_database() {
    let (_cluster, dsn) = shared_with_directory().await;
    let gateway = keys(&dsn);
    let made = gateway.create("known", &["metrics"], None).await.expect("a key");
    accepted(&gateway, made.token.expose_secret()).await;
    // Whoever is not in the memory may be told that it cannot be said just now, but never that it is known.
    let unanswered = |answer: Result<Option<Arc<Caller>>, Error>| {
        assert!(matches!(answer, Ok(None) | Err(Error::Unavailable { region: None, .. })), "{answer:?}");
    };
    let scans =
        "SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'api_keys'";
    let before: i64 = run(&dsn, scans).await[0].get(0);

    let begun = Instant::now();
    let guesses = (0..8).map(|n| {
        let gateway = gateway.clone();
        let guess = format!("dom_{}{n}_{}", "B".repeat(11), "A".repeat(43));
        tokio::spawn(async move {
            let mut tried = 0_u32;
            while begun.elapsed() < Duration::from_secs(4) {
                unanswered(gateway.find(&guess).await);
                tried += 1;
            }
            tried
        })
    });
    for guess in futures::future::join_all(guesses).await {
        assert!(guess.expect("no panic") > 0);
    }
    let flood = futures::future::join_all(
        (0..5_000).map(|_| gateway.find("dom_BBBBBBBBBBBB_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
    );
    flood.await.into_iter().for_each(unanswered);

    // Reads are counted a second after their session became idle, so a few of them may be of the time before.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after: i64 = run(&dsn, scans).await[0].get(0);
    let seconds = i64::try_from(begun.elapsed().as_secs()).expect("a few seconds");
    assert!(after - before <= seconds + 5, "the table was read {} times in {seconds} s", after - before);
}
