//! The Python twin (`python_interop/`) in a pipeline, beside our programs or in their place.

use std::process::Command;

use crate::pipeline::Pipeline;
use crate::process::Process;
use crate::{root, service};

/// Whose program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Ours.
    Rust,
    /// The Python twin's.
    Twin,
}

impl Pipeline {
    /// `python <args>` in the working directory, with the twin's modules and the same environment as our programs.
    pub fn python<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(service("CELERIAC_PYTHON"));
        self.prepare(&mut command);
        command
            .args(args)
            .env("PYTHONPATH", root().join("python_interop"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1")
            // A superuser's worker is what the tests often are; Celery warns of it.
            .env("PYTHONWARNINGS", "ignore");
        command
    }

    /// A worker of that side with so many slots, ready; its name is that of its log too.
    pub async fn worker_of(&self, side: Side, name: &str, slots: u32) -> Process {
        let args = "-A worker.tasks worker --loglevel=info";
        let mut command = match side {
            Side::Rust => self.command(args.split(' ')),
            Side::Twin => {
                let celery = ["-m", "celery"].into_iter().chain(args.split(' '));
                let mut command = self.python(celery);
                // They only take time when a worker starts.
                command.args(["--without-gossip", "--without-mingle"]);
                command
            }
        };
        command.args(["-n", &format!("{name}@%h"), "-c", &slots.to_string()]);
        self.started(name, command, " ready.").await
    }

    /// A consumer of that side, with its partition.
    pub async fn consumer_of(&self, side: Side) -> Process {
        let command = self.consumer_command(side);
        self.started("consumer", command, "Consuming the partitions")
            .await
    }

    /// A consumer of that side, not started.
    pub fn consumer_command(&self, side: Side) -> Command {
        match side {
            Side::Rust => self.command(["consume"]),
            Side::Twin => self.python(["-m", "worker.kafka_consumer"]),
        }
    }

    /// A producer of that side with these options, not started.
    pub fn producer_command(&self, side: Side, options: &[&str]) -> Command {
        let mut command = match side {
            Side::Rust => self.command(["produce"]),
            Side::Twin => self.python(["-m", "kafka_producer"]),
        };
        command.args(options);
        command
    }
}
