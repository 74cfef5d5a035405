//! Where Redis is: the URLs that kombu and Celery take, and the way from one to a server.
//!
//! - `redis://[user:password@]host[:port][/database]`
//! - `rediss://…`: the same by TLS (`tls`)
//! - `redis+socket:///path/to/socket?virtual_host=0`, also spelt `socket://` and `unix://`
//! - `sentinel://host:26379;sentinel://other:26379/0` (`sentinel`)
//!
//! User, password, host and path are percent-encoded. A parameter that has no effect here is refused.
//!
//! Counterpart: `kombu/utils/url.py`, `kombu/transport/redis.py::Channel._connparams` and
//! `celery/backends/redis.py::RedisBackend._params_from_url` @ 5.7.0. Deliberate difference: TLS is
//! verified where the URL does not say otherwise (Celery's backend asks that it says).

use std::hash::{DefaultHasher, Hash, Hasher};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use url::Url;

use super::super::Error;
use super::sentinel::Sentinels;
use super::tls;
use crate::app::settings::{SentinelLogin, mask_url};

/// Redis's port.
const PORT: u16 = 6379;

/// A server, or those who know where it is, in the words that may be shown.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    whose: &'static str,
    /// The URL without its password.
    pub(crate) masked: String,
    place: Place,
    login: RedisConnectionInfo,
    /// See [`Address::server`].
    server: Option<u64>,
}

#[derive(Debug, Clone)]
enum Place {
    Server(ConnectionAddr),
    Sentinels(Sentinels),
}

/// One URL, taken apart.
pub(super) struct Parts {
    pub(super) scheme: String,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// Decoded, without the slash at its beginning.
    path: String,
    pub(super) query: Vec<(String, String)>,
    user: String,
    password: Option<String>,
}

impl Address {
    /// `whose` the URL is stands in the error: `broker`, `result backend`.
    ///
    /// # Errors
    /// The URL is no Redis URL that we can use, or one of its certificates cannot be read.
    pub(crate) fn parse(whose: &'static str, url: &str) -> Result<Self, Error> {
        Self::try_parse(whose, url).map_err(|reason| Error::Url {
            whose,
            url: mask_url(url),
            reason,
        })
    }

    fn try_parse(whose: &'static str, url: &str) -> Result<Self, String> {
        let parts = if url.starts_with("sentinel://") {
            Sentinels::split(url)?
        } else {
            vec![Parts::of(url)?]
        };
        let first = &parts[0];
        let place = match first.scheme.as_str() {
            "sentinel" => Place::Sentinels(Sentinels::new(&parts)?),
            "rediss" => Place::Server(tls::address(first)?),
            "redis" => {
                if first.query.iter().any(|(name, _)| name.starts_with("ssl_")) {
                    return Err("parameters of TLS need the scheme rediss://".to_owned());
                }
                first.only_knows(&[])?;
                Place::Server(ConnectionAddr::Tcp(
                    first.host.clone(),
                    first.port.unwrap_or(PORT),
                ))
            }
            "unix" => {
                first.only_knows(&["virtual_host", "db"])?;
                Place::Server(ConnectionAddr::Unix(format!("/{}", first.path).into()))
            }
            other => {
                return Err(format!(
                    "scheme {other:?} is not supported; use redis://, rediss://, redis+socket:// or sentinel://"
                ));
            }
        };
        let mut login = RedisConnectionInfo::default().set_db(database(&parts)?);
        if !first.user.is_empty() {
            login = login.set_username(&first.user);
        }
        if let Some(password) = &first.password {
            login = login.set_password(password);
        }
        let server = matches!(place, Place::Server(_)).then(|| {
            let mut hasher = DefaultHasher::new();
            let host = first.host.replace("localhost", "127.0.0.1");
            let socket = (first.scheme == "unix").then_some(&first.path);
            (&first.scheme, host, first.port.unwrap_or(PORT), socket).hash(&mut hasher);
            (&first.user, &first.password).hash(&mut hasher);
            hasher.finish()
        });
        Ok(Self {
            whose,
            masked: mask_url(url),
            place,
            login,
            server,
        })
    }

    /// Says which master is meant, and how to log in to the sentinels themselves: kombu's transport
    /// options `master_name` and `sentinel_kwargs`.
    ///
    /// # Errors
    /// The URL has sentinels, and no master is named.
    pub(crate) fn watched_by(
        mut self,
        master_name: Option<&str>,
        login: &SentinelLogin,
    ) -> Result<Self, Error> {
        if let Place::Sentinels(sentinels) = &mut self.place {
            let Some(master) = master_name else {
                return Err(Error::Url {
                    whose: self.whose,
                    url: self.masked,
                    reason: "a sentinel needs to know which master is meant: set master_name in the transport options"
                        .to_owned(),
                });
            };
            sentinels.watch(master, login);
        }
        Ok(self)
    }

    /// The same for all that log in to one server as one user, whichever database they name; `None`: which server it is
    /// changes.
    pub(crate) fn server(&self) -> Option<u64> {
        self.server
    }

    /// The number of the database.
    pub(crate) fn database(&self) -> i64 {
        self.login.db()
    }

    /// The server to connect to now. Sentinels are asked each time, so that a reconnect finds the new master.
    ///
    /// # Errors
    /// No sentinel answers, or none knows the master.
    pub(super) async fn resolve(&self) -> Result<ConnectionInfo, Error> {
        let address = match &self.place {
            Place::Server(address) => address.clone(),
            Place::Sentinels(sentinels) => sentinels.master().await?,
        };
        let info = address.into_connection_info();
        let info = info.map_err(|error| Error::Connection {
            reason: error.to_string(),
        })?;
        Ok(info.set_redis_settings(self.login.clone()))
    }

    /// Why a connection could not be opened, with what to do about it.
    pub(super) fn explain(&self, error: Error) -> Error {
        let Error::Connection { reason } = &error else {
            return error;
        };
        match tls::advice(reason) {
            Some(advice) => Error::Connection {
                reason: format!("{reason}; {advice}"),
            },
            None => error,
        }
    }
}

impl Parts {
    pub(super) fn of(url: &str) -> Result<Self, String> {
        // A URL has no user without a host; a socket has.
        let url = url.replacen("@/", "@localhost/", 1);
        let url = Url::parse(&url).map_err(|error| {
            format!("{error}; expected redis://[user:password@]host[:port][/database]")
        })?;
        let scheme = match url.scheme() {
            "redis+socket" | "socket" | "unix" | "redis+unix" => "unix",
            other => other,
        };
        let path = url.path();
        let host = decoded(url.host_str().unwrap_or_default())?;
        // The address of an IPv6 host, without the brackets that set it off in a URL.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let password = url.password().map(decoded).transpose()?;
        Ok(Self {
            scheme: scheme.to_owned(),
            host: if host.is_empty() { "127.0.0.1" } else { host }.to_owned(),
            port: url.port(),
            path: decoded(path.strip_prefix('/').unwrap_or(path))?,
            query: url.query_pairs().into_owned().collect(),
            user: decoded(url.username())?,
            password: password.filter(|password| !password.is_empty()),
        })
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.query.iter().filter(|(other, _)| other == name);
        values.next_back().map(|(_, value)| value.as_str())
    }

    /// Refuses a parameter that would have no effect.
    pub(super) fn only_knows(&self, names: &[&str]) -> Result<(), String> {
        let unknown = |(name, _): &&(String, String)| !names.contains(&name.as_str());
        match self.query.iter().find(unknown) {
            Some((name, _)) if names.is_empty() => Err(format!(
                "the parameter {name:?} has no effect here; remove it"
            )),
            Some((name, _)) => Err(format!(
                "the parameter {name:?} has no effect here; known are {}",
                names.join(", ")
            )),
            None => Ok(()),
        }
    }

    fn database(&self) -> Result<Option<i64>, String> {
        let text = match self.scheme.as_str() {
            "unix" => self
                .get("virtual_host")
                .or(self.get("db"))
                .unwrap_or_default(),
            _ => &self.path,
        };
        let text = text.trim_matches('/');
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse::<u32>().map(|number| Some(i64::from(number)));
        number.map_err(|_| format!("the database {text:?} is no number, 0 or more"))
    }
}

/// The database of the first URL, as kombu reads a list; another one behind it would have no effect.
fn database(parts: &[Parts]) -> Result<i64, String> {
    let first = parts[0].database()?.unwrap_or(0);
    for other in &parts[1..] {
        if other.database()?.is_some_and(|other| other != first) {
            return Err(format!(
                "of a list, the first address says the database ({first}); the others must name the same or none"
            ));
        }
    }
    Ok(first)
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high * 16 + low);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| "what is percent-encoded is no UTF-8".to_owned())
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
