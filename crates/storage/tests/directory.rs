//! The directory against a real PostgreSQL: first claim wins, whoever claims and whichever peppers they
//! know; and what happens while the server is away.

#[path = "support/directory.rs"]
mod founded;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use founded::{cluster_with_directory, shared_with_directory};
use futures::future::join_all;
use residency::{Epoch, Pin, PinState, Region, SubjectId};
use secrecy::SecretString;
use sqlx::{Connection, PgConnection, Row};
use storage::admin::{self, Membership};
use storage::{Directory, DirectorySettings, Error, Health, Limits, Pepper, Peppers, Rekeyed};
use support::{Cluster, eventually, patient};

const OLD: u16 = 1;
const NEW: u16 = 2;

fn peppers(ids: &[u16]) -> Peppers {
    let mut peppers =
        ids.iter().map(|&id| Pepper::new(id, &[u8::try_from(id).expect("a small id"); 32]).expect("a pepper"));
    Peppers::new(peppers.next().expect("a current pepper"), peppers.collect())
}

fn directory(dsn: &SecretString, ids: &[u16]) -> Directory {
    directory_with(dsn, ids, patient())
}

fn directory_with(dsn: &SecretString, ids: &[u16], limits: Limits) -> Directory {
    Directory::open(DirectorySettings { dsn: dsn.clone(), peppers: peppers(ids), cache_pins_max: 10_000, limits })
}

fn subject(name: impl std::fmt::Display) -> SubjectId {
    SubjectId::new(&format!("subject-{name}")).expect("a subject")
}

fn region(name: &str) -> Region {
    Region::new(name).expect("a region")
}

fn first_home(name: &str) -> Pin {
    Pin { region: region(name), epoch: Epoch::FIRST, state: PinState::Active }
}

async fn sql(dsn: &SecretString, statement: &'static str) -> Vec<sqlx::postgres::PgRow> {
    use secrecy::ExposeSecret as _;
    let mut connection = PgConnection::connect(dsn.expose_secret()).await.expect("a connection");
    sqlx::query(statement).fetch_all(&mut connection).await.expect("a statement that works")
}

async fn count(dsn: &SecretString, statement: &'static str) -> i64 {
    sql(dsn, statement).await[0].get(0)
}

#[tokio::test]
async fn a_claimed_subject_is_found_again_by_every_gateway_and_an_unknown_one_by_none() {
    let (_cluster, dsn) = shared_with_directory().await;
    let here = directory(&dsn, &[OLD]);
    let elsewhere = directory(&dsn, &[OLD]);
    let anna = subject("anna");

    assert_eq!(elsewhere.home_of(&anna).await, Ok(None));
    let claim = here.claim(&anna, &region("eu-central")).await.expect("a claim");
    assert_eq!((claim.pin, claim.fresh), (first_home("eu-central"), true));

    // The other gateway has asked before and must not have remembered that there was nothing.
    assert_eq!(elsewhere.home_of(&anna).await, Ok(Some(first_home("eu-central"))));
    let again = elsewhere.claim(&anna, &region("us-east")).await.expect("a claim");
    assert_eq!((again.pin, again.fresh), (first_home("eu-central"), false));
}

#[tokio::test]
async fn the_directory_holds_pins_and_nothing_else() {
    let (_cluster, dsn) = shared_with_directory().await;
    let directory = directory(&dsn, &[OLD]);
    directory.claim(&subject("anna"), &region("eu-central")).await.expect("a claim");

    let columns = sql(
        &dsn,
        "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = 'domicile.pins'::regclass AND attnum > 0",
    )
    .await;
    assert_eq!(columns[0].get::<&str, _>(0), "subject_digest key_id region epoch state erased_at");
    let digest = directory.digest(&subject("anna"));
    let stored: Vec<u8> = sql(&dsn, "SELECT subject_digest FROM domicile.pins").await[0].get(0);
    assert_eq!(stored, digest.bytes);
    assert_eq!(count(&dsn, "SELECT count(*) FROM domicile.pins AS p WHERE p::text LIKE '%anna%'").await, 0);
}

/// Gateways with different peppers, any two of which share one, claim 1,000 subjects for different
/// regions at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_subjects_claimed_by_everyone_at_once_have_one_home_each() {
    const SUBJECTS: usize = 1_000;
    /// So many are asked about at once by one gateway.
    const TOGETHER: usize = 50;
    let (_cluster, dsn) = shared_with_directory().await;
    let gateways: Vec<_> = [
        (&[OLD][..], "eu-central"),
        (&[OLD, NEW], "us-east"),
        (&[NEW, OLD], "ap-south"),
        (&[OLD], "eu-west"),
        (&[NEW, OLD], "sa-east"),
    ]
    .map(|(ids, home)| (directory(&dsn, ids), region(home)))
    .into();

    let start = Arc::new(tokio::sync::Barrier::new(gateways.len()));
    let racing = gateways.iter().enumerate().map(|(g, (gateway, home))| {
        let (gateway, home, start) = (gateway.clone(), home.clone(), Arc::clone(&start));
        tokio::spawn(async move {
            let claim = async |n: usize| gateway.claim(&subject(n), &home).await.expect("a claim");
            // A head start for everyone, so that everyone wins somewhere whatever the machine does.
            let own = g * TOGETHER..(g + 1) * TOGETHER;
            let early = join_all(own.clone().map(claim)).await;
            let mut claims = Vec::with_capacity(SUBJECTS);
            for wanted in (0..SUBJECTS).step_by(TOGETHER) {
                // From here on everyone wants the same ones at the same time.
                start.wait().await;
                claims.extend(join_all((wanted..wanted + TOGETHER).map(claim)).await);
            }
            for (n, claim) in own.zip(early) {
                assert_eq!(claims[n].pin, claim.pin, "a claim is not taken back");
                claims[n] = claim;
            }
            claims
        })
    });
    let claims: Vec<_> = join_all(racing).await.into_iter().map(|claims| claims.expect("no panic")).collect();

    let mut winners = vec![0; gateways.len()];
    for n in 0..SUBJECTS {
        let of_subject: Vec<_> = claims.iter().map(|of_gateway| &of_gateway[n]).collect();
        let fresh: Vec<_> = (0..gateways.len()).filter(|&g| of_subject[g].fresh).collect();
        assert_eq!(fresh.len(), 1, "subject {n} was won by the gateways {fresh:?}");
        winners[fresh[0]] += 1;
        let home = first_home(gateways[fresh[0]].1.as_str());
        assert!(of_subject.iter().all(|claim| claim.pin == home), "subject {n}: {of_subject:?}");
    }
    assert!(winners.iter().all(|&won| won >= TOGETHER), "it was no race: {winners:?}");

    // Gateways that have not taken part remember nothing and read the rows themselves.
    for ids in [&[OLD][..], &[OLD, NEW], &[NEW, OLD]] {
        let late = directory(&dsn, ids);
        for (n, claim) in claims[0].iter().enumerate() {
            assert_eq!(late.home_of(&subject(n)).await, Ok(Some(claim.pin.clone())), "subject {n} by {ids:?}");
        }
    }
    // Those lookups made the rows complete: from now on the new pepper alone suffices.
    eventually("complete rows", async || count(&dsn, "SELECT count(*) FROM domicile.pins").await == 2_000).await;
    let future = directory(&dsn, &[NEW]);
    for (n, claim) in claims[0].iter().enumerate() {
        assert_eq!(future.home_of(&subject(n)).await, Ok(Some(claim.pin.clone())), "subject {n} by the new pepper");
    }
}

#[tokio::test]
async fn lookups_and_claims_that_wait_together_travel_together() {
    const TOGETHER: i64 = 4_000;
    let (_cluster, dsn) = shared_with_directory().await;
    let directory = directory(&dsn, &[OLD]);
    eventually("a connection", async || directory.home_of(&subject("nobody")).await == Ok(None)).await;
    // Statements of other sessions are counted a second after they became idle.
    let statements = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let before = count(&dsn, statements).await;

    let home = region("eu-central");
    let subjects: Vec<_> = (0..TOGETHER).map(subject).collect();
    let claims = join_all(subjects.iter().map(|subject| directory.claim(subject, &home))).await;
    assert!(claims.into_iter().all(|claim| claim.expect("a claim").fresh));
    subjects.iter().for_each(|subject| directory.forget(subject));
    let homes = join_all(subjects.iter().map(|subject| directory.home_of(subject))).await;
    assert!(homes.into_iter().all(|home| home == Ok(Some(first_home("eu-central")))));

    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let used = count(&dsn, statements).await - before;
    // Besides, the API keys are read at most once a second.
    let besides = i64::try_from(begun.elapsed().as_secs()).expect("a while");
    assert!(used < 60 + besides, "{used} transactions for {TOGETHER} claims and as many lookups in {besides} s");
}

#[tokio::test]
async fn a_pepper_is_rotated_without_losing_or_moving_a_pin() {
    let (_cluster, dsn) = shared_with_directory().await;
    let before = directory(&dsn, &[OLD]);
    let subjects: Vec<_> = (0..300).map(subject).collect();
    for (n, subject) in subjects.iter().enumerate() {
        before.claim(subject, &region(if n % 2 == 0 { "eu-central" } else { "us-east" })).await.expect("a claim");
    }

    // Both peppers everywhere; the regions name their subjects, and one that nobody has pinned.
    let between = directory(&dsn, &[NEW, OLD]);
    let mut named = subjects.clone();
    named.push(subject("never pinned"));
    let rekeyed = between.rekey(&named).await.expect("a rekeying");
    assert_eq!(rekeyed, Rekeyed { complete: 300, filled: 300, unpinned: 1 });
    let again = between.rekey(&named).await.expect("a rekeying");
    assert_eq!(again, Rekeyed { complete: 300, filled: 0, unpinned: 1 });

    // The current pepper cannot be retired, nor one that nobody knows.
    for (key_id, known) in [(NEW, &[NEW, OLD][..]), (7, &[NEW, OLD])] {
        let refused = admin::retire_key(&dsn, &peppers(known), key_id, &subjects).await;
        assert!(matches!(refused, Err(admin::Error::Key { .. })), "{refused:?}");
    }
    // One region first, then the other: what was not named stays.
    let half = admin::retire_key(&dsn, &peppers(&[NEW, OLD]), OLD, &subjects[..100]).await.expect("a retirement");
    assert_eq!((half.removed, half.remaining), (100, 200));
    let rest = admin::retire_key(&dsn, &peppers(&[NEW, OLD]), OLD, &named).await.expect("a retirement");
    assert_eq!((rest.removed, rest.remaining), (200, 0));

    let after = directory(&dsn, &[NEW]);
    for (n, subject) in subjects.iter().enumerate() {
        let home = first_home(if n % 2 == 0 { "eu-central" } else { "us-east" });
        assert_eq!(after.home_of(subject).await, Ok(Some(home)));
    }
}

#[tokio::test]
async fn a_row_without_a_successor_outlives_its_peppers_retirement() {
    let (_cluster, dsn) = shared_with_directory().await;
    directory(&dsn, &[OLD]).claim(&subject("anna"), &region("eu-central")).await.expect("a claim");
    let retired = admin::retire_key(&dsn, &peppers(&[NEW, OLD]), OLD, &[subject("anna")]).await.expect("a retirement");
    assert_eq!((retired.removed, retired.remaining), (0, 1));
}

#[tokio::test]
async fn rows_that_contradict_each_other_are_refused_and_do_not_hold_up_their_neighbours() {
    let (_cluster, dsn) = shared_with_directory().await;
    // A mistake in a rotation: two gateways that shared no pepper claimed one subject.
    directory(&dsn, &[OLD]).claim(&subject("anna"), &region("eu-central")).await.expect("a claim");
    directory(&dsn, &[NEW]).claim(&subject("anna"), &region("us-east")).await.expect("a claim");

    let both = directory(&dsn, &[NEW, OLD]);
    let (anna, bert, us_east) = (subject("anna"), subject("bert"), region("us-east"));
    let (of_anna, of_bert) = tokio::join!(both.claim(&anna, &us_east), both.claim(&bert, &us_east));
    assert!(matches!(of_anna, Err(Error::Internal(_))), "{of_anna:?}");
    assert_eq!(of_bert.expect("a claim").pin, first_home("us-east"));
    assert!(matches!(both.home_of(&anna).await, Err(Error::Internal(_))));
}

#[tokio::test]
async fn the_highest_epoch_is_the_pin_and_only_active_pins_are_remembered() {
    let (_cluster, dsn) = shared_with_directory().await;
    let directory = directory(&dsn, &[OLD]);
    let anna = subject("anna");
    directory.claim(&anna, &region("eu-central")).await.expect("a claim");
    sql(&dsn, "UPDATE domicile.pins SET region = 'us-east', epoch = 2, state = 'moving'").await;

    // What is remembered may be stale: that is what `forget` is for.
    assert_eq!(directory.home_of(&anna).await, Ok(Some(first_home("eu-central"))));
    directory.forget(&anna);
    let moving = Pin { region: region("us-east"), epoch: Epoch(2), state: PinState::Moving };
    assert_eq!(directory.home_of(&anna).await, Ok(Some(moving)));
    assert_eq!(directory.cached_pins(), 0);
    sql(&dsn, "UPDATE domicile.pins SET state = 'active'").await;
    let moved = Pin { region: region("us-east"), epoch: Epoch(2), state: PinState::Active };
    assert_eq!(directory.home_of(&anna).await, Ok(Some(moved)));
    assert_eq!(directory.cached_pins(), 1);
}

#[tokio::test]
async fn no_more_pins_are_remembered_than_allowed() {
    let (_cluster, dsn) = shared_with_directory().await;
    let limits = patient();
    let settings = DirectorySettings { dsn, peppers: peppers(&[OLD]), cache_pins_max: 50, limits };
    let directory = Directory::open(settings);
    let home = region("eu-central");
    let subjects: Vec<_> = (0..500).map(subject).collect();
    join_all(subjects.iter().map(|subject| directory.claim(subject, &home))).await;
    assert!((1..=50).contains(&directory.cached_pins()), "{}", directory.cached_pins());
    for subject in &subjects {
        assert_eq!(directory.home_of(subject).await, Ok(Some(first_home("eu-central"))));
    }
}

#[tokio::test]
async fn a_stopped_directory_is_refused_at_once_except_for_what_is_remembered_and_comes_back_by_itself() {
    let (cluster, dsn) = cluster_with_directory().await;
    let directory = directory(&dsn, &[OLD]);
    let (anna, bert) = (subject("anna"), subject("bert"));
    directory.claim(&anna, &region("eu-central")).await.expect("a claim");
    assert_eq!(directory.health(), Health::Up);

    cluster.stop();
    eventually("an outage", async || matches!(directory.health(), Health::Down { .. })).await;
    for _ in 0..20 {
        let refused = directory.home_of(&bert).await;
        // The server is known to be away: whoever says so is not the end of the caller's patience.
        assert!(
            matches!(&refused, Err(Error::Unavailable { region: None, source }) if !source.to_string().contains("in time")),
            "{refused:?}"
        );
    }
    assert!(directory.claim(&bert, &region("eu-central")).await.is_err());
    assert_eq!(directory.home_of(&anna).await, Ok(Some(first_home("eu-central"))));

    cluster.start();
    eventually("recovery", async || directory.home_of(&bert).await == Ok(None)).await;
    assert!(directory.claim(&bert, &region("eu-central")).await.expect("a claim").fresh);
}

#[tokio::test]
async fn a_restart_between_two_requests_is_not_noticed() {
    let (cluster, dsn) = cluster_with_directory().await;
    let limits = Limits { idle_check_interval: Duration::from_secs(3_600), ..patient() };
    let directory = directory_with(&dsn, &[OLD], limits);
    directory.claim(&subject("anna"), &region("eu-central")).await.expect("a claim");
    assert_eq!(directory.home_of(&subject("bert")).await, Ok(None));
    cluster.kill();
    cluster.start();
    // Both connections are dead and nobody knows yet.
    assert_eq!(directory.home_of(&subject("bert")).await, Ok(None));
    assert!(directory.claim(&subject("bert"), &region("eu-central")).await.expect("a claim").fresh);
}

#[tokio::test]
async fn a_directory_that_hangs_is_given_up_in_time_and_its_queue_is_bounded() {
    let (cluster, dsn) = cluster_with_directory().await;
    let deadline = Duration::from_secs(2);
    let limits = Limits {
        statement_timeout: Duration::from_millis(800),
        connect_timeout: Duration::from_millis(800),
        answer_timeout: deadline,
        queue_deeds_max: 10,
        batch_lookups_max: 5,
        ..Limits::default()
    };
    let directory = directory_with(&dsn, &[OLD], limits);
    eventually("a connection", async || directory.home_of(&subject("anna")).await == Ok(None)).await;

    cluster.freeze();
    let begun = Instant::now();
    let subjects: Vec<_> = (0..100).map(subject).collect();
    let answers = join_all(subjects.iter().map(|subject| directory.home_of(subject))).await;
    // The deadline is what is promised; ten times as long only tells one that was kept late from one that was not kept.
    assert!(begun.elapsed() < deadline * 10, "{:?}", begun.elapsed());
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Unavailable { region: None, .. }))));
    let full = answers.iter().filter(|answer| format!("{answer:?}").contains("queue is full")).count();
    assert!(full >= 80, "{full} of 100 were refused because the queue was full");

    cluster.thaw();
    eventually("recovery", async || directory.home_of(&subject("anna")).await == Ok(None)).await;
}

#[tokio::test]
async fn a_database_that_is_no_directory_is_reported_as_down_with_the_reason() {
    let cluster = Cluster::shared();
    let directory = directory(&cluster.dsn("postgres").into(), &[OLD]);
    eventually(
        "a verdict",
        async || matches!(directory.health(), Health::Down { reason, .. } if reason.contains("domicile.pins")),
    )
    .await;
    assert!(directory.home_of(&subject("anna")).await.is_err());
}

#[tokio::test]
async fn a_gateways_login_can_claim_pins_and_do_nothing_else_to_them() {
    let (cluster, dsn) = cluster_with_directory().await;
    let login = admin::LoginName::new("gateway").expect("a name");
    admin::create_login_role(&dsn, &login, None, &[Membership::Directory]).await.expect("a login");
    let gateway = SecretString::from(cluster.dsn_as("gateway", "directory"));
    let directory = directory(&gateway, &[OLD]);
    directory.claim(&subject("anna"), &region("eu-central")).await.expect("a claim");

    let mut connection =
        PgConnection::connect(&cluster.dsn_as("gateway", "directory")).await.expect("a connection of the login");
    sqlx::query("SET ROLE domicile_directory").execute(&mut connection).await.expect("its group");
    for forbidden in [
        "DELETE FROM domicile.pins",
        "TRUNCATE domicile.pins",
        "UPDATE domicile.pins SET subject_digest = subject_digest",
        "DROP TABLE domicile.pins",
        "CREATE TABLE domicile.other ()",
        "UPDATE domicile.api_keys SET revoked_at = NULL",
        "INSERT INTO domicile.api_keys (id, name, secret_hash, scopes) \
         VALUES ('aaaaaaaaaaaa', 'x', decode(repeat('00', 32), 'hex'), '{}')",
        "SELECT FROM domicile.directory_migrations",
        "SET ROLE postgres",
        "SET ROLE domicile_keys",
    ] {
        let refused = sqlx::query(forbidden).execute(&mut connection).await.expect_err(forbidden);
        let code = refused.as_database_error().and_then(|e| e.code()).unwrap_or_default().into_owned();
        assert_eq!(code, "42501", "{forbidden}: {refused}");
    }
    // And without its group it can do nothing at all.
    sqlx::query("RESET ROLE").execute(&mut connection).await.expect("no group");
    assert!(sqlx::query("SELECT FROM domicile.pins").execute(&mut connection).await.is_err());
}
