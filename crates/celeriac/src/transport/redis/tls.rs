//! TLS to Redis, by rustls: who is trusted, and who we are.
//!
//! The parameters are Python's: `ssl_cert_reqs=required|optional|none` (also `CERT_REQUIRED` …),
//! `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_check_hostname`. As in Python, `optional` verifies
//! a server as `required` does. Without a word the certificate is verified against `ssl_ca_certs`, or
//! else against what the system trusts. Files are read when the program starts.
//!
//! Counterpart: `kombu/utils/url.py::parse_url` and `celery/backends/redis.py` @ 5.7.0.

use redis::{Client, ClientTlsConfig, ConnectionAddr, TlsCertificates};

use super::address::Parts;

/// Redis's port.
const PORT: u16 = 6379;

/// The address of a `rediss://` URL, with its certificates.
pub(super) fn address(parts: &Parts) -> Result<ConnectionAddr, String> {
    parts.only_knows(&[
        "ssl_cert_reqs",
        "ssl_ca_certs",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_check_hostname",
    ])?;
    // One provider of cryptography for the whole process; another crate may have set its own before.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let insecure = match parts.get("ssl_cert_reqs") {
        None | Some("required" | "CERT_REQUIRED" | "optional" | "CERT_OPTIONAL") => false,
        Some("none" | "CERT_NONE") => true,
        Some(other) => {
            return Err(format!(
                "ssl_cert_reqs={other:?} is not known; use required, optional or none"
            ));
        }
    };
    let address = ConnectionAddr::TcpTls {
        host: parts.host.clone(),
        port: parts.port.unwrap_or(PORT),
        insecure,
        tls_params: None,
    };
    let client_tls = match (parts.get("ssl_certfile"), parts.get("ssl_keyfile")) {
        (None, None) => None,
        (Some(certificate), key) => Some(ClientTlsConfig {
            client_cert: file("ssl_certfile", certificate)?,
            // As in Python, the key may stand in the same file.
            client_key: file("ssl_keyfile", key.unwrap_or(certificate))?,
        }),
        (None, Some(_)) => return Err("ssl_keyfile needs ssl_certfile beside it".to_owned()),
    };
    let root_cert = parts.get("ssl_ca_certs");
    let certificates = TlsCertificates {
        client_tls,
        root_cert: root_cert
            .map(|path| file("ssl_ca_certs", path))
            .transpose()?,
    };
    let client =
        Client::build_with_tls(address, certificates).map_err(|error| error.to_string())?;
    let mut address = client.get_connection_info().addr().clone();
    match parts.get("ssl_check_hostname") {
        None => {}
        Some(text) if text.eq_ignore_ascii_case("true") => {}
        Some(text) if text.eq_ignore_ascii_case("false") => {
            address.set_danger_accept_invalid_hostnames(true);
        }
        Some(other) => {
            return Err(format!(
                "ssl_check_hostname={other:?} is not known; use true or false"
            ));
        }
    }
    Ok(address)
}

fn file(parameter: &str, path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{parameter}={path:?} cannot be read: {error}"))
}

/// What to do about an error of TLS; `None` for another one.
pub(super) fn advice(reason: &str) -> Option<&'static str> {
    const STRANGER: &str = "nobody whom we trust has signed the server's certificate: name its CA with ?ssl_ca_certs=/path/to/ca.pem";
    let advice = [
        ("UnknownIssuer", STRANGER),
        // Signed by somebody who has the name of one whom we trust.
        ("BadSignature", STRANGER),
        (
            "not valid for name",
            "the server's certificate is for another name: use the name that is in it as the host",
        ),
        (
            "certificate expired",
            "the server's certificate has expired: renew it there",
        ),
        (
            "CertificateRequired",
            "the server asks for a certificate of ours: name it with ?ssl_certfile=…&ssl_keyfile=…",
        ),
        (
            "InvalidContentType",
            "the server does not speak TLS on this port: use redis://, or its port for TLS",
        ),
    ];
    let found = advice.iter().find(|(sign, _)| reason.contains(sign));
    found.map(|(_, advice)| *advice)
}
