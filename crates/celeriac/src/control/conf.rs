//! The settings, such as anybody may see them.
//!
//! Whoever may publish at the broker may ask, so no password and no key is ever in the answer.
//!
//! Counterpart: `celery/app/utils.py` (`Settings.table`, `filter_hidden_settings`, `bugreport`) @ 5.7.0.

use celeriac_protocol::{Map, repr};
use serde_json::{Value, json};

use super::Control;
use crate::VERSION;
use crate::app::settings::{Section, mask_broker_url, mask_url};

/// What stands for a value that nobody may see.
const HIDDEN: &str = "********";

/// The mask in a URL, as the banner has it; the answer has Celery's longer one.
const SHORT_MASK: &str = ":**@";

/// A setting with one of these words in its name is a secret, as in Celery.
const SECRETS: [&str; 8] = [
    "api",
    "token",
    "key",
    "secret",
    "pass",
    "profanities_list",
    "signature",
    "database",
];

/// What is always shown: where the messages are, and which of them are run.
const ALWAYS: [&str; 2] = ["broker_url", "accept_content"];

/// What Celery lets be set, and is as it is here. Always shown: no file of ours says it.
fn fixed() -> [(&'static str, Value); 7] {
    [
        ("enable_utc", json!(true)),
        ("timezone", json!("UTC")),
        // Redis has none.
        ("broker_heartbeat", json!(0)),
        ("worker_hijack_root_logger", json!(true)),
        // On a terminal.
        ("worker_log_color", Value::Null),
        // Tasks are part of the program: no module is imported.
        ("include", json!([])),
        // Settings have no second names.
        ("deprecated_settings", Value::Null),
    ]
}

impl Control {
    pub(super) fn conf(&self, with_defaults: bool) -> Value {
        let settings = self.app.settings();
        let mut table = table(settings, with_defaults);
        let fixed = fixed().into_iter();
        table.extend(fixed.map(|(name, value)| (name.to_owned(), value)));
        for (name, options, all) in [
            (
                "broker_transport_options",
                changed(&settings.broker_transport_options),
                table_of(&settings.broker_transport_options),
            ),
            (
                "result_backend_transport_options",
                changed(&settings.result_backend_transport_options),
                table_of(&settings.result_backend_transport_options),
            ),
        ] {
            let options = if with_defaults { all } else { options };
            if with_defaults || !options.is_empty() {
                table.insert(name.to_owned(), Value::Object(options));
            }
        }
        Value::Object(table)
    }

    /// What a bug report needs.
    pub(super) fn report(&self) -> String {
        let mut text = format!(
            "\nsoftware -> celeriac:{VERSION}\nplatform -> system:{} arch:{}\nsettings -> transport:redis results:{}\n\n",
            std::env::consts::OS,
            std::env::consts::ARCH,
            self.app.backend_url(),
        );
        if let Value::Object(table) = self.conf(false) {
            for (name, value) in &table {
                text.push_str(&format!("{name}: {}\n", repr::repr_value(value)));
            }
        }
        text
    }
}

/// The settings that differ from their defaults.
pub(super) fn changed(section: &impl Section) -> Map {
    table(section, false)
}

fn table_of(section: &impl Section) -> Map {
    table(section, true)
}

fn table<S: Section>(section: &S, with_defaults: bool) -> Map {
    let defaults = S::default().values();
    let values = section.values().into_iter().zip(defaults);
    values
        .filter(|((name, value), (_, default))| {
            with_defaults || value != default || ALWAYS.contains(name)
        })
        .map(|((name, value), _)| (name.to_owned(), visible(name, &value)))
        .collect()
}

fn visible(name: &str, value: &toml::Value) -> Value {
    if SECRETS.iter().any(|word| name.contains(word)) {
        return json!(HIDDEN);
    }
    match (name, value) {
        ("broker_url", toml::Value::String(url)) => json!(long_mask(&mask_broker_url(url))),
        (_, value) => plain(value),
    }
}

fn plain(value: &toml::Value) -> Value {
    match value {
        // TOML has no null; these are the words for it.
        toml::Value::String(text) if text == "none" || text == "auto" => Value::Null,
        // Whatever is a URL loses its password, under whatever name it stands.
        toml::Value::String(text) => json!(long_mask(&mask_url(text))),
        toml::Value::Integer(number) => json!(number),
        toml::Value::Float(number) => json!(number),
        toml::Value::Boolean(flag) => json!(flag),
        toml::Value::Datetime(time) => json!(time.to_string()),
        toml::Value::Array(items) => items.iter().map(plain).collect(),
        toml::Value::Table(table) => {
            let entries = table
                .iter()
                .map(|(name, value)| (name.clone(), visible(name, value)));
            Value::Object(entries.collect())
        }
    }
}

fn long_mask(url: &str) -> String {
    url.replace(SHORT_MASK, &format!(":{HIDDEN}@"))
}
