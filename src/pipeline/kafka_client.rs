//! What producer and consumer share: librdkafka's configuration, and what becomes of its log.
//!
//! librdkafka reports a broker that is away several times a second and from every connection. Here that becomes one
//! line each ten seconds ([`Outage`]); everything else it says goes on at the level it deserves.

use std::fmt::Display;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::outage::Outage;
use crate::settings::Kafka;

/// Why a Kafka client could not be made. Nothing was tried over the network yet: the settings are wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// librdkafka does not know the property or refuses its value (which may be a secret, and is not shown).
    #[error("[kafka] \"{property}\": {reason}")]
    Property {
        /// Its name.
        property: String,
        /// librdkafka's words.
        reason: String,
    },
    /// The properties do not go together.
    #[error("the [kafka] settings cannot be used: {0}")]
    Settings(String),
}

impl From<KafkaError> for ClientError {
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::ClientConfig(_, reason, property, value) => {
                // librdkafka quotes the value in some of its messages.
                let reason = if value.is_empty() {
                    reason
                } else {
                    reason.replace(&value, "…")
                };
                Self::Property { property, reason }
            }
            other => Self::Settings(other.to_string()),
        }
    }
}

/// The configuration of a client: defaults of ours, the user's properties over them, and over these what the
/// pipeline's promises rest on ([`crate::settings`] refuses to set that).
pub(crate) fn configuration(
    kafka: &Kafka,
    defaults: &[(&str, &str)],
    fixed: &[(&str, &str)],
) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "celeriac")
        // Back-off between attempts to connect, in ms.
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "5000")
        // A topic that does not exist yet is looked for this often (librdkafka's default is five minutes), in ms.
        .set("topic.metadata.refresh.interval.ms", "10000");
    let users = kafka
        .properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in defaults
        .iter()
        .copied()
        .chain(users)
        .chain(fixed.iter().copied())
    {
        config.set(name, value);
    }
    config.set("bootstrap.servers", &kafka.bootstrap_servers);
    config
}

/// Whether the error only says that no broker answers (yet).
pub(crate) fn is_away(error: &KafkaError) -> bool {
    let Some(code) = error.rdkafka_error_code() else {
        return false;
    };
    matches!(
        code,
        RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::WaitingForCoordinator
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::CoordinatorLoadInProgress
            | RDKafkaErrorCode::NotCoordinator
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::BrokerNotAvailable
    )
}

/// Receives what librdkafka says. Clones share one note of Kafka's absence, so that the clients of one process do not
/// all speak of it.
#[derive(Clone)]
pub(crate) struct Listener {
    outage: Arc<Outage>,
    consequence: &'static str,
}

impl Listener {
    /// `consequence`: what it means here that Kafka is away, as in `new files wait`.
    pub(crate) fn new(kafka: &Kafka, consequence: &'static str) -> Self {
        let outage = Outage::new(format!("Kafka at {}", kafka.bootstrap_servers));
        Self {
            outage: Arc::new(outage),
            consequence,
        }
    }

    /// Kafka does not answer, or not as it should.
    pub(crate) fn away(&self, reason: &dyn Display) {
        self.outage.note(self.consequence, reason);
    }

    /// Kafka answers.
    pub(crate) fn answers(&self) {
        self.outage.over();
    }

    /// An error outside of any call of ours.
    pub(crate) fn heard(&self, error: &KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // One connection of several, or one that was idle for long: if it matters, "all are down" follows.
            Some(RDKafkaErrorCode::BrokerTransportFailure) => {
                log::debug!(target: "librdkafka", "{reason}")
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                // Once per look at the topics.
                log::info!("Waiting for the topic: {reason}");
            }
            _ if is_away(error) => self.away(&reason),
            _ => log::warn!("Kafka: {error}: {reason}"),
        }
    }
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // FAIL, COMMITFAIL: told again through `error` and the commit's result. CONFWARN: a consumer's property in a producer and the
        // other way round, since both are made from one table. GETPID: an idempotent producer waits for its number.
        let repeated = matches!(
            facility,
            "FAIL" | "CONFWARN" | "ERROR" | "GETPID" | "COMMITFAIL"
        );
        match level {
            _ if repeated => log::debug!(target: "librdkafka", "{facility} {message}"),
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => log::error!(target: "librdkafka", "{facility} {message}"),
            RDKafkaLogLevel::Warning => log::warn!(target: "librdkafka", "{facility} {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                log::debug!(target: "librdkafka", "{facility} {message}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard(&error, reason);
    }
}
