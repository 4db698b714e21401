//! An in-process Kafka-protocol broker: librdkafka's own mock cluster, behind real loopback sockets.
//!
//! For the demo on machines without a broker, and for tests that need faults on command. It keeps
//! everything in memory and nothing after it: not for data that anybody wants back.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::error::Error;

/// How long the broker's thread may take to obey.
const OBEY_MAX: Duration = Duration::from_secs(60);

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Command = Box<dyn FnOnce(&Cluster) + Send>;

/// A broker that lives as long as this value.
pub struct MockBroker {
    brokers: String,
    commands: mpsc::SyncSender<Command>,
}

impl MockBroker {
    /// Starts a cluster of one broker on a free loopback port.
    ///
    /// # Errors
    /// [`Error::Mock`] when librdkafka could not start it.
    pub fn start() -> Result<Self, Error> {
        Self::of(1)
    }

    /// Starts a cluster of several brokers, on free loopback ports.
    ///
    /// # Errors
    /// [`Error::Mock`] when librdkafka could not start it.
    pub fn of(brokers: u8) -> Result<Self, Error> {
        let (commands, orders) = mpsc::sync_channel::<Command>(16);
        let (started, starting) = mpsc::sync_channel(1);
        // The cluster's handle must stay on one thread; this one is its own and ends with the last order.
        let serve = move || match MockCluster::new(i32::from(brokers)) {
            Ok(cluster) => {
                let _ = started.send(Ok(cluster.bootstrap_servers()));
                for order in orders {
                    order(&cluster);
                }
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        };
        thread::Builder::new()
            .name("mock-broker".to_owned())
            .spawn(serve)
            .map_err(|error| Error::Mock(format!("has no thread: {error}")))?;
        match starting.recv_timeout(OBEY_MAX) {
            Ok(Ok(brokers)) => Ok(Self { brokers, commands }),
            Ok(Err(error)) => Err(Error::Mock(format!("did not start: {error}"))),
            Err(_) => Err(Error::Mock("did not start in time".to_owned())),
        }
    }

    /// Where it listens: `host:port`.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Creates a topic. The mock knows no CreateTopics request, so that this is the way; a topic that a
    /// client merely mentions is created with 4 partitions.
    ///
    /// # Errors
    /// [`Error::Mock`] when it exists already or the broker is gone.
    pub fn create_topic(&self, topic: &str, partitions: u16) -> Result<(), Error> {
        let topic = topic.to_owned();
        let made = self.ask(move |cluster| cluster.create_topic(&topic, i32::from(partitions), 1))?;
        made.map_err(|error| Error::Mock(format!("did not create the topic: {error}")))
    }

    /// Makes the next requests of a kind fail, one error each.
    ///
    /// # Errors
    /// [`Error::Mock`] when the broker is gone.
    pub fn fail_next(&self, requests: RDKafkaApiKey, errors: Vec<RDKafkaRespErr>) -> Result<(), Error> {
        self.ask(move |cluster| cluster.request_errors(requests, &errors))
    }

    /// Makes another broker the leader of a partition. Brokers are numbered from 1.
    ///
    /// # Errors
    /// [`Error::Mock`] when there is no such partition or broker.
    pub fn move_leader(&self, topic: &str, partition: i32, broker: i32) -> Result<(), Error> {
        let topic = topic.to_owned();
        let moved = self.ask(move |cluster| cluster.partition_leader(&topic, partition, Some(broker)))?;
        moved.map_err(|error| Error::Mock(format!("did not move the leader: {error}")))
    }

    /// Hangs up on everybody and takes no new connections, until [`MockBroker::up`].
    ///
    /// # Errors
    /// [`Error::Mock`] when the broker is gone.
    pub fn down(&self) -> Result<(), Error> {
        let done = self.ask(|cluster| cluster.broker_down(-1))?;
        done.map_err(|error| Error::Mock(format!("did not go down: {error}")))
    }

    /// Takes connections again.
    ///
    /// # Errors
    /// [`Error::Mock`] when the broker is gone.
    pub fn up(&self) -> Result<(), Error> {
        let done = self.ask(|cluster| cluster.broker_up(-1))?;
        done.map_err(|error| Error::Mock(format!("did not come up: {error}")))
    }

    /// Delays every answer.
    ///
    /// # Errors
    /// [`Error::Mock`] when the broker is gone.
    pub fn slow(&self, round_trip: Duration) -> Result<(), Error> {
        let done = self.ask(move |cluster| cluster.broker_round_trip_time(-1, round_trip))?;
        done.map_err(|error| Error::Mock(format!("did not slow down: {error}")))
    }

    fn ask<T: Send + 'static>(&self, order: impl FnOnce(&Cluster) -> T + Send + 'static) -> Result<T, Error> {
        let (answer, answered) = mpsc::sync_channel(1);
        let command: Command = Box::new(move |cluster| {
            let _ = answer.send(order(cluster));
        });
        self.commands.send(command).map_err(|_| Error::Mock("is gone".to_owned()))?;
        answered.recv_timeout(OBEY_MAX).map_err(|_| Error::Mock("did not obey in time".to_owned()))
    }
}
