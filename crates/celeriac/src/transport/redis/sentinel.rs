//! Sentinels: those who know which server is the master now.
//!
//! They are asked whenever a connection is opened, one after the other until one answers; so a failover
//! costs a reconnect, and nothing else. What is asked of the old master meanwhile breaks, or is refused
//! with READONLY, and is asked of the new one.
//!
//! Counterpart: `kombu/transport/redis.py::SentinelChannel` and `redis.sentinel` of redis-py.
//! Deliberate difference: no TLS on this way yet; its parameters are refused.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo,
};

use super::super::Error;
use super::address::Parts;
use crate::app::settings::SentinelLogin;

/// A sentinel's port.
const PORT: u16 = 26379;

/// How long one sentinel may take; the next one is asked then.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(super) struct Sentinels {
    addresses: Vec<(String, u16)>,
    master: String,
    login: RedisConnectionInfo,
}

impl Sentinels {
    /// The URLs of a list.
    pub(super) fn split(url: &str) -> Result<Vec<Parts>, String> {
        let parts: Result<Vec<Parts>, String> = url.split(';').map(Parts::of).collect();
        let parts = parts.map_err(|error| format!("of a list of sentinels with ';': {error}"))?;
        match parts.iter().find(|parts| parts.scheme != "sentinel") {
            Some(other) => Err(format!(
                "{}:// stands in a list of sentinels; each of its addresses begins with sentinel://",
                other.scheme
            )),
            None => Ok(parts),
        }
    }

    pub(super) fn new(parts: &[Parts]) -> Result<Self, String> {
        for part in parts {
            part.only_knows(&[])?;
        }
        let address = |part: &Parts| (part.host.clone(), part.port.unwrap_or(PORT));
        Ok(Self {
            addresses: parts.iter().map(address).collect(),
            master: String::new(),
            login: RedisConnectionInfo::default(),
        })
    }

    pub(super) fn watch(&mut self, master: &str, login: &SentinelLogin) {
        master.clone_into(&mut self.master);
        if let Some(username) = &login.username {
            self.login = self.login.clone().set_username(username);
        }
        if let Some(password) = &login.password {
            self.login = self.login.clone().set_password(password);
        }
    }

    /// Where the master is now.
    pub(super) async fn master(&self) -> Result<ConnectionAddr, Error> {
        let mut reasons = Vec::new();
        for (host, port) in &self.addresses {
            match self.ask(host, *port).await {
                Ok(Some((host, port))) => return Ok(ConnectionAddr::Tcp(host, port)),
                Ok(None) => reasons.push(format!("{host}:{port} does not know it")),
                Err(error) => reasons.push(format!("{host}:{port}: {error}")),
            }
        }
        Err(Error::Connection {
            reason: format!(
                "no sentinel says where the master {:?} is ({})",
                self.master,
                reasons.join("; ")
            ),
        })
    }

    async fn ask(&self, host: &str, port: u16) -> redis::RedisResult<Option<(String, u16)>> {
        let info = ConnectionAddr::Tcp(host.to_owned(), port).into_connection_info()?;
        let client = Client::open(info.set_redis_settings(self.login.clone()))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = connecting.await?;
        redis::cmd("SENTINEL")
            .arg("get-master-addr-by-name")
            .arg(&self.master)
            .query_async(&mut connection)
            .await
    }
}
