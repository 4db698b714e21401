//! A real Redpanda, when there is one: `DOMICILE_IT_REDPANDA` holds its brokers, and where they ask for it
//! `DOMICILE_IT_REDPANDA_CA` names the authorities' file, `DOMICILE_IT_REDPANDA_USER` and `…_PASSWORD` a SCRAM login.

use secrecy::SecretString;

use super::*;
use crate::inspect::tail_by;
use crate::settings::{Scram, Security, Tls};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_redpanda_takes_every_entry_once() {
    let Ok(brokers) = std::env::var("DOMICILE_IT_REDPANDA") else {
        eprintln!("\nNOT RUN: no brokers were named in DOMICILE_IT_REDPANDA; the real service was not tried.\n");
        return;
    };
    let variable = |name: &str| std::env::var(format!("DOMICILE_IT_REDPANDA_{name}")).ok();
    let mut settings = settings(&brokers);
    settings.missing_topics = MissingTopics::Create { partitions: 3, replication: 1, retention: None };
    let tls = variable("CA").map(|file| Tls { authorities: Some(file.into()), client: None });
    settings.security = match (variable("USER"), tls) {
        (Some(username), tls) => Security::Scram(Scram {
            tls,
            sha512: false,
            username,
            password: SecretString::from(variable("PASSWORD").unwrap()),
        }),
        (None, Some(tls)) => Security::Tls(tls),
        (None, None) => Security::Plain,
    };
    // A log and a topic of this run alone.
    settings.log_origin = Some(format!("smoke.example/{:016x}", rand::random::<u64>()));
    let topic = format!("eu-central.domicile-smoke.run-{:016x}.v1", rand::random::<u64>());
    // What the killed one leaves is taken over soon.
    settings.limits.lease = Duration::from_secs(10);
    let log = MemoryLog::new(&region());
    log.commit((1..=2_000).map(|seq| entry(seq, &topic)));
    let first = Running::start(settings.clone(), &log);
    first.until("some progress", |status| status.seq > 500).await;
    first.task.abort();
    let _ = first.task.await;
    let second = Running::start(settings.clone(), &log);
    let status = second.caught_up(&log).await;
    second.stop().await;
    assert_eq!(status.dead_letters, 0, "{status:?}");
    let messages = tail_by(settings.client(), &[topic], true, PATIENCE).await.unwrap();
    assert_nothing_lost_and_in_order(&messages, 1..=2_000);
    assert_eq!(messages.len(), 2_000, "and the second one repeated nothing: {status:?}");
}
