//! From a URL to a transport or a result backend.

use std::sync::Arc;

use super::Settings;
use super::settings::mask_url;
use crate::backend::{DisabledBackend, MemoryBackend, RedisBackend, ResultBackend};
use crate::transport::memory::MemoryTransport;
use crate::transport::redis::RedisTransport;
use crate::transport::{Error, Transport};

/// The schemes of Redis, as kombu and Celery spell them.
const REDIS: [&str; 7] = [
    "redis",
    "rediss",
    "redis+socket",
    "redis+unix",
    "socket",
    "unix",
    "sentinel",
];

/// The broker that `broker_url` names. Opens nothing yet.
pub(super) fn transport(settings: &Settings) -> Result<Arc<dyn Transport>, Error> {
    let url = &settings.broker_url;
    match scheme(url) {
        scheme if REDIS.contains(&scheme) => Ok(Arc::new(RedisTransport::new(
            url,
            &settings.broker_transport_options,
        )?)),
        "memory" => Ok(Arc::new(MemoryTransport::new(
            url,
            &settings.broker_transport_options,
        ))),
        other => Err(unsupported("broker", url, other)),
    }
}

/// The backend that `result_backend` names. Opens nothing yet.
pub(super) fn backend(settings: &Settings) -> Result<Arc<dyn ResultBackend>, Error> {
    let Some(url) = &settings.result_backend else {
        return Ok(Arc::new(DisabledBackend));
    };
    match scheme(url) {
        scheme if REDIS.contains(&scheme) => Ok(Arc::new(RedisBackend::new(url, settings)?)),
        "cache+memory" | "memory" => Ok(Arc::new(MemoryBackend::new(url, settings))),
        "disabled" => Ok(Arc::new(DisabledBackend)),
        other => Err(unsupported("result backend", url, other)),
    }
}

fn scheme(url: &str) -> &str {
    url.split_once("://").map_or("", |(scheme, _)| scheme)
}

fn unsupported(whose: &'static str, url: &str, scheme: &str) -> Error {
    Error::Url {
        whose,
        url: mask_url(url),
        reason: format!(
            "scheme {scheme:?} is not supported; use redis://, rediss://, redis+socket:// or sentinel://"
        ),
    }
}
