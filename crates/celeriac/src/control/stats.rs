//! What the worker has done and what it runs on.
//!
//! Counterpart: `celery/worker/worker.py` (`info`, `stats`), `celery/concurrency/prefork.py` (`_get_info`) and
//! `kombu/connection.py::Connection.info` @ 5.7.0. All keys are there, since tools read them; what does not
//! exist here (processes of a pool, writes to them) has the value that Celery has where it does not either.

use celeriac_protocol::Map;
use serde_json::{Value, json};
use url::Url;

use super::{Control, conf, process};
use crate::app::settings::mask_url;

/// `broker_connection_timeout`, which is fixed here.
const CONNECT_TIMEOUT_SECS: u64 = 4;

impl Control {
    pub(super) fn stats(&self) -> Value {
        let totals = self.state.totals().into_iter();
        let totals: Map = totals.map(|(task, count)| (task, json!(count))).collect();
        json!({
            "total": totals,
            "pid": std::process::id(),
            "clock": self.state.clock().to_string(),
            "uptime": self.state.uptime_secs(),
            "pool": {
                "implementation": "celeriac:tokio",
                "max-concurrency": self.concurrency,
                "processes": [std::process::id()],
                "max-tasks-per-child": "N/A",
                "put-guarded-by-semaphore": false,
                "timeouts": [0, 0],
                "writes": "N/A",
            },
            "broker": self.broker(),
            "prefetch_count": match self.prefetch {
                0 => 0,
                prefetch => prefetch + self.state.count_waiting(),
            },
            "rusage": process::usage().unwrap_or_else(|| json!("N/A")),
        })
    }

    /// Where the broker is. No password is in it.
    fn broker(&self) -> Value {
        let settings = self.app.settings();
        // A list of sentinels is no URL: masked, nothing in it can come to light in the wrong field.
        let url = Url::parse(&mask_url(&settings.broker_url)).ok();
        let url = url.as_ref();
        let user = url.map(Url::username).filter(|user| !user.is_empty());
        let database = url.map(|url| url.path().trim_start_matches('/'));
        let scheme = url.map_or("redis", Url::scheme);
        json!({
            "hostname": url.and_then(Url::host_str),
            "userid": user,
            "virtual_host": database.filter(|name| !name.is_empty()).unwrap_or("0"),
            "port": url.map(|url| url.port().unwrap_or(6379)),
            "insist": false,
            "ssl": scheme == "rediss",
            "transport": "redis",
            "connect_timeout": CONNECT_TIMEOUT_SECS,
            "transport_options": conf::changed(&settings.broker_transport_options),
            "login_method": null,
            "uri_prefix": null,
            "heartbeat": 0,
            "failover_strategy": "round-robin",
            "alternates": [],
            "credential_provider": null,
        })
    }
}
