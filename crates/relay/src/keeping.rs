//! How long topics keep what was sent to them: the latest that what is said of an erased person leaves them.
//!
//! Nothing takes one subject's messages out of a topic. Compaction by key would also take everybody's older events, and
//! deleting up to an offset those of all others. What bounds it is time: brokers delete a segment when its newest message
//! is older than `retention.ms`, and a segment takes messages until it is `segment.ms` old. So whatever is in a topic now
//! is gone after both, and the little that brokers take for it. Topics that keep longer than the operator allowed, or for
//! ever, are not sent to; those of the region that are not sent to raise an alarm.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use follow::{Backoff, sentence};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use residency::Region;
use tracing::{error, warn};

use crate::error::Error;
use crate::settings::Settings;
use crate::status::Board;
use crate::topics;

/// What comes on top of both times: a message may be under way for a minute, brokers look for what to delete every five,
/// and delete a minute later.
const ALLOWANCE: Duration = Duration::from_secs(15 * 60);
/// How often the region's topics are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// The waits after brokers that did not answer.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Topics that are asked about at once.
const ASKED_MAX: usize = 200;

/// How long after its erasure a person's messages may still be in a topic that keeps them for `retention` and that the
/// relay created: the brokers delete by segment.
#[must_use]
pub fn forgets_within(retention: Duration) -> Duration {
    retention + segment(retention) + ALLOWANCE
}

/// How long a segment of such a topic takes messages.
fn segment(retention: Duration) -> Duration {
    Duration::from_secs((retention.as_secs() / 7).clamp(3_600, 86_400))
}

/// The configuration of a topic that is to keep messages so long.
pub(crate) fn configuration(retention: Duration) -> [(&'static str, String); 3] {
    let ms = |duration: Duration| duration.as_millis().to_string();
    [("cleanup.policy", "delete".to_owned()), ("retention.ms", ms(retention)), ("segment.ms", ms(segment(retention)))]
}

/// How long a topic keeps a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeps {
    /// No longer than this.
    AtMost(Duration),
    /// Nothing bounds it.
    ForEver,
    /// The brokers do not say.
    NotSaid,
}

impl Keeps {
    /// What a topic's configuration comes to.
    fn of<'a>(setting: impl Fn(&str) -> Option<&'a str>) -> Self {
        let (Some(policy), Some(retention), Some(segment)) =
            (setting("cleanup.policy"), setting("retention.ms"), setting("segment.ms"))
        else {
            return Self::NotSaid;
        };
        if !policy.split(',').any(|policy| policy.trim() == "delete") {
            return Self::ForEver;
        }
        // -1 is no bound; a segment without one stays open in a quiet topic.
        let ms = |text: &str| text.trim().parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        match (ms(retention), ms(segment)) {
            (Some(retention), Some(segment)) => {
                Self::AtMost(retention.saturating_add(segment).saturating_add(ALLOWANCE))
            }
            _ => Self::ForEver,
        }
    }

    pub(crate) fn exceeds(self, max: Duration) -> bool {
        self > Self::AtMost(max)
    }
}

impl fmt::Display for Keeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(duration) => write!(f, "keeps messages for up to {} h", duration.as_secs().div_ceil(3_600)),
            Self::ForEver => f.write_str("keeps messages for ever"),
            Self::NotSaid => f.write_str("does not say how long it keeps messages"),
        }
    }
}

/// Makes sure that topics forget in time. Those that do not exist keep nothing.
///
/// # Errors
/// [`Error::TopicKeeps`] for the first that does not, or why it cannot be known.
pub(crate) async fn check(settings: &Settings, topics: &[String]) -> Result<(), Error> {
    let Some(max) = settings.forget_max else { return Ok(()) };
    match look(settings, topics).await?.into_iter().find(|(_, keeps)| keeps.exceeds(max)) {
        Some((topic, keeps)) => Err(Error::TopicKeeps { topic, keeps, hours_max: max.as_secs() / 3_600 }),
        None => Ok(()),
    }
}

/// Looks at all topics of the region now and then, for as long as it is polled: an operator may change them, and those
/// that nothing is sent to any more hold messages, too.
pub(crate) async fn watch(settings: &Settings, region: &Region, board: &Board) {
    let Some(max) = settings.forget_max else { return };
    let mut backoff = Backoff::new(BACKOFF_MIN, LOOK_EVERY);
    loop {
        let looked = async { look(settings, &of_region(settings, region).await?).await };
        match looked.await {
            Ok(found) => {
                for (topic, keeps) in found.iter().filter(|(_, keeps)| keeps.exceeds(max)) {
                    error!(
                        %region, topic,
                        "The topic {topic} {keeps}: what it holds of erased people is not gone after {} h", max.as_secs() / 3_600
                    );
                }
                board.topics_keep(&found, max);
                backoff.reset();
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(trouble) => {
                let error = sentence(&trouble);
                warn!(%region, error, "How long the topics of {region} keep messages is not known; it will be asked again");
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }
}

async fn of_region(settings: &Settings, region: &Region) -> Result<Vec<String>, Error> {
    let prefix = format!("{region}.");
    Ok(topics::list(settings).await?.into_iter().filter(|topic| topic.starts_with(&prefix)).collect())
}

/// How long each of these topics keeps messages, without those that do not exist.
async fn look(settings: &Settings, topics: &[String]) -> Result<BTreeMap<String, Keeps>, Error> {
    let mut found = BTreeMap::new();
    if topics.is_empty() {
        return Ok(found);
    }
    let admin: AdminClient<DefaultClientContext> = settings.client().create().map_err(Error::Client)?;
    let options = AdminOptions::new().request_timeout(Some(settings.limits.answer_max));
    for some in topics.chunks(ASKED_MAX) {
        let asked: Vec<ResourceSpecifier<'_>> = some.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let answers = admin.describe_configs(&asked, &options).await.map_err(Error::Topics)?;
        for (topic, answer) in some.iter().zip(answers) {
            match answer {
                Ok(ConfigResource { specifier: OwnedResourceSpecifier::Topic(topic), entries }) => {
                    let setting = |name: &str| entries.iter().find(|entry| entry.name == name)?.value.as_deref();
                    found.insert(topic, Keeps::of(setting));
                }
                Err(RDKafkaErrorCode::UnknownTopicOrPartition) => {}
                // Not ours to be asked about, most of all: the user may not describe it.
                Ok(_) | Err(_) => {
                    found.insert(topic.clone(), Keeps::NotSaid);
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps(policy: &str, retention: &str, segment: &str) -> Keeps {
        let settings =
            BTreeMap::from([("cleanup.policy", policy), ("retention.ms", retention), ("segment.ms", segment)]);
        Keeps::of(|name| settings.get(name).copied())
    }

    #[test]
    fn a_topic_forgets_after_its_retention_and_a_segment() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(keeps("delete", "3600000", "7200000"), Keeps::AtMost(3 * hour + ALLOWANCE));
        assert_eq!(keeps("compact,delete", "3600000", "3600000"), Keeps::AtMost(2 * hour + ALLOWANCE));
        for (policy, retention, segment) in
            [("compact", "1", "1"), ("delete", "-1", "1"), ("delete", "1", "-1"), ("delete", "", "1"), ("", "1", "1")]
        {
            assert_eq!(keeps(policy, retention, segment), Keeps::ForEver, "{policy} {retention} {segment}");
        }
        assert_eq!(Keeps::of(|name| (name != "segment.ms").then_some("1")), Keeps::NotSaid);
    }

    #[test]
    fn whatever_has_no_bound_exceeds_every_bound() {
        assert!(Keeps::ForEver.exceeds(Duration::MAX) && Keeps::NotSaid.exceeds(Duration::MAX));
        assert!(!Keeps::AtMost(ALLOWANCE).exceeds(ALLOWANCE));
        assert!(Keeps::AtMost(ALLOWANCE + Duration::from_millis(1)).exceeds(ALLOWANCE));
    }

    #[test]
    fn a_topic_that_the_relay_creates_forgets_when_it_says() {
        for hours in [1, 24, 168, 8_760] {
            let retention = Duration::from_secs(hours * 3_600);
            let settings = configuration(retention);
            let setting =
                |name: &str| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
            assert_eq!(Keeps::of(setting), Keeps::AtMost(forgets_within(retention)), "{hours} h");
        }
    }
}
