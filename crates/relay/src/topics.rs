//! Topics that entries name: seen, created or asked for.

use std::collections::HashSet;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaErrorCode;
use residency::Region;
use tracing::info;

use crate::error::Error;
use crate::keeping;
use crate::settings::{MissingTopics, Settings};

/// Makes sure that the wanted topics exist and forget in time, and returns those that existed before (or may have).
pub(crate) async fn ensure(settings: &Settings, region: &Region, wanted: &[String]) -> Result<Vec<String>, Error> {
    let old = exist(settings, region, wanted).await?;
    keeping::check(settings, &old).await?;
    Ok(old)
}

async fn exist(settings: &Settings, region: &Region, wanted: &[String]) -> Result<Vec<String>, Error> {
    let MissingTopics::Create { partitions, replication, retention } = settings.missing_topics else {
        return check(settings, wanted).await;
    };
    let known = list(settings).await?;
    let (mut old, missing): (Vec<String>, Vec<String>) =
        wanted.iter().cloned().partition(|topic| known.contains(topic));
    if missing.is_empty() {
        return Ok(old);
    }
    let admin: AdminClient<DefaultClientContext> = settings.client().create().map_err(Error::Client)?;
    let configuration = retention.map(keeping::configuration);
    let new: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|topic| {
            let new = NewTopic::new(topic, i32::from(partitions), TopicReplication::Fixed(i32::from(replication)));
            configuration.iter().flatten().fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    let answer_max = Some(settings.limits.answer_max);
    let options = AdminOptions::new().request_timeout(answer_max).operation_timeout(answer_max);
    for result in admin.create_topics(&new, &options).await.map_err(Error::Topics)? {
        match result {
            Ok(topic) => info!(%region, topic, partitions, "Created topic {topic}"),
            // Another relay, or an operator, was faster.
            Err((topic, RDKafkaErrorCode::TopicAlreadyExists)) => old.push(topic),
            Err((topic, code)) => return Err(Error::TopicRefused { topic, code }),
        }
    }
    Ok(old)
}

async fn check(settings: &Settings, wanted: &[String]) -> Result<Vec<String>, Error> {
    if settings.missing_topics == MissingTopics::LeaveToBrokers {
        return Ok(wanted.to_vec());
    }
    let known = list(settings).await?;
    match wanted.iter().find(|topic| !known.contains(*topic)) {
        Some(topic) => Err(Error::TopicMissing { topic: topic.clone() }),
        None => Ok(wanted.to_vec()),
    }
}

/// Every topic of the brokers. Asking for all names, not for one: asking for one creates it on brokers
/// with automatic creation, with their partitions and retention rather than ours.
pub(crate) async fn list(settings: &Settings) -> Result<HashSet<String>, Error> {
    let (config, answer_max) = (settings.client(), settings.limits.answer_max);
    let names = move || -> KafkaResult<HashSet<String>> {
        let client: BaseProducer = config.create()?;
        let metadata = client.client().fetch_metadata(None, answer_max)?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    };
    match tokio::task::spawn_blocking(names).await {
        Ok(names) => names.map_err(Error::Topics),
        Err(stopped) => Err(Error::Log(Box::new(stopped))),
    }
}
