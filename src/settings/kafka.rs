//! `[kafka]`: where the brokers are, and every property of librdkafka by its own name.

use std::collections::BTreeMap;
use std::fmt;

use celeriac::settings::mask_url;

use super::Flags;
use super::table::{Section, SettingsError};

/// What the dead letter topic is called, after the topic.
const DLQ_SUFFIX: &str = ".dlq";

/// Longest topic name, in bytes; Kafka's own limit.
const TOPIC_NAME_MAX_BYTES: usize = 249;

/// Properties that the pipeline's promises rest on, and where to set them instead (if anywhere).
const RESERVED: [(&str, &str); 11] = [
    ("bootstrap.servers", "use bootstrap_servers"),
    ("metadata.broker.list", "use bootstrap_servers"),
    ("group.id", "use group"),
    (
        "enable.auto.commit",
        "offsets are committed when Redis has the task",
    ),
    (
        "enable.auto.offset.store",
        "offsets are committed when Redis has the task",
    ),
    (
        "auto.offset.reset",
        "a new group begins with the earliest record, so that no file is skipped",
    ),
    ("enable.idempotence", "it is always on"),
    ("acks", "it is always all"),
    ("request.required.acks", "it is always all"),
    ("message.timeout.ms", "a record is sent until Kafka has it"),
    ("delivery.timeout.ms", "a record is sent until Kafka has it"),
];

/// `[kafka]`.
#[derive(Clone)]
pub(crate) struct Kafka {
    /// `host:port`, several with commas.
    pub(crate) bootstrap_servers: String,
    pub(crate) topic: String,
    pub(crate) group: String,
    /// librdkafka's own properties.
    pub(crate) properties: BTreeMap<String, String>,
}

impl Kafka {
    /// The topic for bad records.
    pub(crate) fn dlq_topic(&self) -> String {
        format!("{}{DLQ_SUFFIX}", self.topic)
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("topic", &self.topic)
            .field("group", &self.group)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

impl Kafka {
    pub(super) fn load(
        flags: &Flags,
        variable: &dyn Fn(&str) -> Option<String>,
        section: &Section<'_>,
    ) -> Result<Self, SettingsError> {
        let pick = |flag: &Option<String>, name: &'static str, key, default: &str| {
            let file = section.text(key)?;
            Ok(flag
                .clone()
                .or_else(|| variable(name))
                .or(file)
                .unwrap_or_else(|| default.to_owned()))
        };
        let bootstrap_servers = pick(
            &flags.bootstrap_servers,
            "KAFKA_BOOTSTRAP_SERVERS",
            "bootstrap_servers",
            "localhost:9092",
        )?;
        let topic = pick(&flags.topic, "KAFKA_TOPIC", "topic", "file_events")?;
        let group = pick(
            &flags.group,
            "KAFKA_GROUP",
            "group",
            "file-processing-group",
        )?;
        check_topic(&topic)?;
        check_servers(&bootstrap_servers)?;
        let properties = section.properties(&["bootstrap_servers", "topic", "group"])?;
        for (name, instead) in RESERVED {
            if properties.contains_key(name) {
                return Err(section.refuse(name, instead));
            }
        }
        Ok(Self {
            bootstrap_servers,
            topic,
            group,
            properties,
        })
    }
}

/// `host:port`, or `host` alone for port 9092, several with commas. librdkafka would try a bad one for ever.
fn check_servers(servers: &str) -> Result<(), SettingsError> {
    let is_address = |one: &str| {
        let (host, port) = match one.rsplit_once(':') {
            Some((host, port)) if !one.ends_with(']') => (host, port),
            _ => (one, "9092"),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        port.parse::<u16>().is_ok_and(|port| port > 0)
            && !host.is_empty()
            && host.bytes().all(is_plain)
    };
    if servers.split(',').all(|one| is_address(one.trim())) {
        return Ok(());
    }
    Err(SettingsError::Servers(mask_url(servers)))
}

/// Kafka's rule for names, with room for the dead letter topic's.
fn check_topic(topic: &str) -> Result<(), SettingsError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = topic.len() + DLQ_SUFFIX.len() <= TOPIC_NAME_MAX_BYTES;
    if topic.is_empty() || !fits || matches!(topic, "." | "..") || !topic.bytes().all(legal) {
        return Err(SettingsError::Topic(topic.to_owned()));
    }
    Ok(())
}
