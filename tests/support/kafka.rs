//! A topic and a consumer group of a test's own, on the Kafka that `make up` has started.

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

/// A topic with one partition; it and its dead letter topic are deleted with the value.
#[derive(Debug)]
pub struct Topic {
    name: String,
}

impl Topic {
    /// Creates it.
    ///
    /// # Panics
    /// Kafka cannot be reached.
    pub async fn create() -> Self {
        let name = format!("whole-{}", Uuid::new_v4().simple());
        let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
        let created = admin()
            .create_topics([&topic], &AdminOptions::new())
            .await
            .expect("Kafka answers");
        assert!(created.iter().all(Result::is_ok), "{created:?}");
        Self { name }
    }

    /// Its name, which serves as the name of its group too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port of the Kafka that has it.
    ///
    /// # Panics
    /// Its address has none.
    pub fn server_port(&self) -> u16 {
        let servers = service("KAFKA_BOOTSTRAP_SERVERS");
        let (_, port) = servers.rsplit_once(':').expect("host:port");
        port.parse().expect("a port")
    }

    /// Puts records behind each other that have these values and no key.
    ///
    /// # Panics
    /// Kafka does not take them.
    pub async fn produce(&self, values: impl IntoIterator<Item = Option<&[u8]>>) {
        let producer: FutureProducer = client(&[]);
        let mut sending = Vec::new();
        for value in values {
            let mut record = FutureRecord::<[u8], [u8]>::to(&self.name);
            record.payload = value;
            sending.push(producer.send_result(record).expect("the queue has room"));
        }
        for sent in sending {
            let delivered = sent.await.expect("the producer lives");
            delivered.expect("Kafka has it");
        }
    }

    /// How many records it has ever got.
    pub async fn end(&self) -> i64 {
        blocking(&self.name, end).await
    }

    /// All its records, from the first one on.
    pub async fn records(&self) -> Vec<Record> {
        blocking(&self.name, records).await
    }

    /// All records of its dead letter topic.
    pub async fn dead_letters(&self) -> Vec<Record> {
        blocking(&self.name, |topic| records(&dead_letter_topic(topic))).await
    }

    /// The mark of a group: the offset of the record that it wants next; `None` before its first commit.
    pub async fn committed(&self, group: &str) -> Option<i64> {
        let group = group.to_owned();
        blocking(&self.name, move |topic| {
            let consumer: BaseConsumer = client(&[("group.id", &group)]);
            let mut list = TopicPartitionList::new();
            list.add_partition(topic, 0);
            let list = consumer.committed_offsets(list, LIMIT);
            match list.expect("Kafka answers").elements()[0].offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            }
        })
        .await
    }

    /// The ids of the members of its group.
    pub async fn members(&self) -> Vec<String> {
        blocking(&self.name, |group| {
            let consumer: BaseConsumer = client(&[]);
            let list = consumer.fetch_group_list(Some(group), LIMIT);
            let list = list.expect("Kafka answers");
            let members = list.groups().iter().flat_map(|group| group.members());
            members.map(|member| member.id().to_owned()).collect()
        })
        .await
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let topics = [self.name.clone(), dead_letter_topic(&self.name)];
        afterwards(async move {
            let topics = topics.each_ref().map(String::as_str);
            // The second one is seldom there.
            let options = AdminOptions::new();
            admin().delete_topics(&topics, &options).await.ok();
        });
    }
}

fn dead_letter_topic(topic: &str) -> String {
    format!("{topic}.dlq")
}

fn end(topic: &str) -> i64 {
    let consumer: BaseConsumer = client(&[]);
    let (_, end) = consumer
        .fetch_watermarks(topic, 0, LIMIT)
        .expect("Kafka answers");
    end
}

fn records(topic: &str) -> Vec<Record> {
    let count = usize::try_from(end(topic)).expect("a count");
    let consumer: BaseConsumer = client(&[("group.id", "nobody"), ("enable.auto.commit", "false")]);
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning)
        .expect("an offset");
    consumer.assign(&from).expect("a partition");
    let next = || own(&consumer.poll(LIMIT)?.expect("a record"));
    std::iter::from_fn(next).take(count).collect()
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

fn admin() -> AdminClient<DefaultClientContext> {
    client(&[])
}

fn client<T: FromClientConfig>(properties: &[(&str, &str)]) -> T {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", service("KAFKA_BOOTSTRAP_SERVERS"));
    for (name, value) in properties {
        config.set(*name, *value);
    }
    config.create().expect("the settings are right")
}

/// librdkafka's requests block; the programs under test may need this thread (a proxy runs on it).
async fn blocking<T: Send + 'static>(
    name: &str,
    request: impl FnOnce(&str) -> T + Send + 'static,
) -> T {
    let name = name.to_owned();
    tokio::task::spawn_blocking(move || request(&name))
        .await
        .expect("Kafka answers")
}
