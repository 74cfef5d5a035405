//! A certificate authority of a test's own, with a server and a client that it has signed.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// `ca.pem`, and `server` and `client` with a `.pem` and a `.key` each.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Makes them with openssl. The server is `localhost`, and no other name.
    ///
    /// # Panics
    /// `openssl` is not installed.
    pub fn make() -> Self {
        Self::of("ca")
    }

    /// As [`Self::make`], by an authority of this name.
    ///
    /// # Panics
    /// `openssl` is not installed.
    pub fn of(authority: &str) -> Self {
        let made = Self {
            directory: TempDir::new().expect("a directory can be made"),
        };
        let key = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        made.openssl(&format!(
            "{key} -x509 -days 2 -subj /CN={authority} -keyout ca.key -out ca.pem"
        ));
        let names = made.path("names");
        std::fs::write(names, "subjectAltName=DNS:localhost").expect("it can be written");
        for who in ["server", "client"] {
            made.openssl(&format!(
                "{key} -subj /CN={who} -keyout {who}.key -out {who}.csr"
            ));
            made.openssl(&format!(
                "x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile names -out {who}.pem"
            ));
        }
        made
    }

    /// Where one of the files is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The options with which `redis-server` speaks TLS on this port.
    pub fn server_options(&self, port: u16, asks_clients: bool) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        let asks = if asks_clients { "yes" } else { "no" };
        [
            "--tls-port".to_owned(),
            port.to_string(),
            "--tls-cert-file".to_owned(),
            path("server.pem"),
            "--tls-key-file".to_owned(),
            path("server.key"),
            "--tls-ca-cert-file".to_owned(),
            path("ca.pem"),
            "--tls-auth-clients".to_owned(),
            asks.to_owned(),
        ]
        .to_vec()
    }

    fn openssl(&self, words: &str) {
        let output = Command::new("openssl")
            .args(words.split_whitespace())
            .current_dir(self.directory.path())
            .output()
            .expect("openssl is installed");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {words}: {text}");
    }
}
