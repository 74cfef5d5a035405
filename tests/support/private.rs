//! Servers of a test's own, to kill and start anew: PostgreSQL and Kafka by the script that also serves all tests, in a
//! directory of their own.

use std::process::Command;

use tempfile::TempDir;

use crate::root;

/// A server to kill and start; it is erased with the value.
#[derive(Debug)]
pub struct PrivateServer {
    name: &'static str,
    /// What names its address in the output of `services env`.
    variable: &'static str,
    home: TempDir,
}

impl PrivateServer {
    /// Starts a PostgreSQL on a free port.
    ///
    /// # Panics
    /// It does not start.
    pub fn postgres() -> Self {
        Self::start("postgres", "DATABASE_URL")
    }

    /// Starts a Kafka on a free port.
    ///
    /// # Panics
    /// It does not start.
    pub fn kafka() -> Self {
        Self::start("kafka", "KAFKA_BOOTSTRAP_SERVERS")
    }

    fn start(name: &'static str, variable: &'static str) -> Self {
        let server = Self {
            name,
            variable,
            home: TempDir::new().expect("a directory can be made"),
        };
        server.restart();
        server
    }

    /// Ends it and its children with SIGKILL.
    ///
    /// # Panics
    /// It cannot be ended.
    pub fn kill(&self) {
        self.services(&["kill", self.name]);
    }

    /// Starts it anew, on the same port and data, and waits until it answers.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart(&self) {
        self.services(&["up", self.name]);
    }

    /// Its address: PostgreSQL's as a URL, Kafka's as `host:port`.
    ///
    /// # Panics
    /// It has never been started.
    pub fn address(&self) -> String {
        let env = self.services(&["env"]);
        let mut lines = env.lines();
        let address = lines.find_map(|line| {
            let line = line.strip_prefix("export ")?;
            line.strip_prefix(self.variable)?.strip_prefix('=')
        });
        address.expect("the server has been started").to_owned()
    }

    fn services(&self, args: &[&str]) -> String {
        let output = Command::new(root().join("tests/services/services"))
            .args(args)
            .env("CELERIAC_HOME", self.home.path())
            .output()
            .expect("the script runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(
            output.status.success(),
            "services {args:?}\n{said}{complained}"
        );
        said
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        self.services(&["erase", "--force"]);
    }
}
