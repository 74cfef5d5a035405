//! A topic and a consumer group of a test's own.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfig};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use crate::afterwards::afterwards;
use crate::service;

/// How long one request to Kafka may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What a topic holds of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its bytes; `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, String)>,
}

impl Record {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }
}

/// A topic; it and its dead letter topic are deleted with the value.
#[derive(Debug)]
pub struct Topic {
    at: At,
}

/// Where it is.
#[derive(Debug, Clone)]
struct At {
    servers: String,
    name: String,
    partitions: i32,
}

impl Topic {
    /// Creates one with one partition, on the Kafka that `make up` has started.
    ///
    /// # Panics
    /// Kafka cannot be reached.
    pub async fn create() -> Self {
        Self::create_on(service("KAFKA_BOOTSTRAP_SERVERS"), 1).await
    }

    /// Creates one on the Kafka at this address.
    ///
    /// # Panics
    /// It cannot be reached.
    pub async fn create_on(servers: String, partitions: i32) -> Self {
        let at = At {
            servers,
            name: format!("whole-{}", Uuid::new_v4().simple()),
            partitions,
        };
        let topic = NewTopic::new(&at.name, partitions, TopicReplication::Fixed(1));
        let created = at
            .admin()
            .create_topics([&topic], &AdminOptions::new())
            .await
            .expect("Kafka answers");
        assert!(created.iter().all(Result::is_ok), "{created:?}");
        Self { at }
    }

    /// Its name, which serves as the name of its group too.
    pub fn name(&self) -> &str {
        &self.at.name
    }

    /// The address of the Kafka that has it.
    pub fn servers(&self) -> &str {
        &self.at.servers
    }

    /// Puts records behind each other that have these values and no key.
    ///
    /// # Panics
    /// Kafka does not take them.
    pub async fn produce(&self, values: impl IntoIterator<Item = Option<&[u8]>>) {
        let producer: FutureProducer = self.at.client(&[]);
        let mut sending = Vec::new();
        for value in values {
            let mut record = FutureRecord::<[u8], [u8]>::to(&self.at.name);
            record.payload = value;
            sending.push(producer.send_result(record).expect("the queue has room"));
        }
        for sent in sending {
            let delivered = sent.await.expect("the producer lives");
            delivered.expect("Kafka has it");
        }
    }

    /// How many records it has ever got, in all partitions.
    pub async fn end(&self) -> i64 {
        self.blocking(At::end).await
    }

    /// All its records, from the first one on.
    pub async fn records(&self) -> Vec<Record> {
        self.blocking(At::records).await
    }

    /// All records of its dead letter topic.
    pub async fn dead_letters(&self) -> Vec<Record> {
        self.blocking(|at| at.dead_letter_topic().records()).await
    }

    /// How many records a group has behind it, in all partitions; `None` before its first commit.
    pub async fn committed(&self, group: &str) -> Option<i64> {
        let group = group.to_owned();
        self.blocking(move |at| at.committed(&at.group(&group)))
            .await
    }

    /// The same again and again, with one connection for all of it.
    pub fn mark(&self) -> Mark {
        Mark {
            at: self.at.clone(),
            group: Arc::new(self.at.group(&self.at.name)),
        }
    }

    /// The ids of the members of its group.
    pub async fn members(&self) -> Vec<String> {
        self.blocking(|at| {
            let consumer: BaseConsumer = at.client(&[]);
            let list = consumer.fetch_group_list(Some(&at.name), LIMIT);
            let list = list.expect("Kafka answers");
            let members = list.groups().iter().flat_map(|group| group.members());
            members.map(|member| member.id().to_owned()).collect()
        })
        .await
    }

    /// librdkafka's requests block; the programs under test may need this thread (a proxy runs on it).
    async fn blocking<T: Send + 'static>(
        &self,
        request: impl FnOnce(&At) -> T + Send + 'static,
    ) -> T {
        let at = self.at.clone();
        tokio::task::spawn_blocking(move || request(&at))
            .await
            .expect("Kafka answers")
    }
}

/// The mark of the topic's group.
pub struct Mark {
    at: At,
    group: Arc<BaseConsumer>,
}

impl Mark {
    /// How many records the group has behind it, in all partitions; `None` before its first commit.
    pub async fn committed(&self) -> Option<i64> {
        let (at, group) = (self.at.clone(), Arc::clone(&self.group));
        let looking = tokio::task::spawn_blocking(move || at.committed(&group));
        looking.await.expect("Kafka answers")
    }
}

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mark")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let at = self.at.clone();
        afterwards(async move {
            let dead = at.dead_letter_topic();
            // The second one is seldom there.
            let options = AdminOptions::new();
            let names = [at.name.as_str(), dead.name.as_str()];
            at.admin().delete_topics(&names, &options).await.ok();
        });
    }
}

impl At {
    fn dead_letter_topic(&self) -> Self {
        Self {
            name: format!("{}.dlq", self.name),
            ..self.clone()
        }
    }

    fn end(&self) -> i64 {
        let consumer: BaseConsumer = self.client(&[]);
        let ends = (0..self.partitions).map(|partition| {
            let marks = consumer.fetch_watermarks(&self.name, partition, LIMIT);
            marks.expect("Kafka answers").1
        });
        ends.sum()
    }

    fn group(&self, group: &str) -> BaseConsumer {
        self.client(&[("group.id", group)])
    }

    fn committed(&self, consumer: &BaseConsumer) -> Option<i64> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.name, 0, self.partitions - 1);
        let list = consumer.committed_offsets(list, LIMIT);
        let list = list.expect("Kafka answers");
        let marks = list
            .elements()
            .into_iter()
            .filter_map(|one| match one.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            });
        marks.reduce(|sum, mark| sum + mark)
    }

    fn records(&self) -> Vec<Record> {
        let count = usize::try_from(self.end()).expect("a count");
        let properties = [("group.id", "nobody"), ("enable.auto.commit", "false")];
        let consumer: BaseConsumer = self.client(&properties);
        let mut from = TopicPartitionList::new();
        for partition in 0..self.partitions {
            from.add_partition_offset(&self.name, partition, Offset::Beginning)
                .expect("an offset");
        }
        consumer.assign(&from).expect("a partition");
        let next = || own(&consumer.poll(LIMIT)?.expect("a record"));
        std::iter::from_fn(next).take(count).collect()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client(&[])
    }

    fn client<T: FromClientConfig>(&self, properties: &[(&str, &str)]) -> T {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        for (name, value) in properties {
            config.set(*name, *value);
        }
        config.create().expect("the settings are right")
    }
}

fn own(message: &BorrowedMessage<'_>) -> Option<Record> {
    let headers = message.headers().into_iter().flat_map(|all| all.iter());
    Some(Record {
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| {
                let value = String::from_utf8_lossy(header.value.unwrap_or_default());
                (header.key.to_owned(), value.into_owned())
            })
            .collect(),
    })
}
