//! The Python twin (`python_interop/`) in a pipeline: its worker, its producer and its consumer, by the seed's paths.

use std::process::Command;

use crate::pipeline::Pipeline;
use crate::process::Process;
use crate::{root, service};

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

    /// The twin's worker with so many slots.
    pub fn twin_command(&self, name: &str, slots: u32) -> Command {
        let args =
            "-m celery -A worker.tasks worker --loglevel=info --without-gossip --without-mingle";
        let mut command = self.python(args.split(' '));
        command.args(["-n", &format!("{name}@%h"), "-c", &slots.to_string()]);
        command
    }

    /// Starts the twin's worker, and waits until it is ready.
    pub async fn twin_worker(&self, name: &str, slots: u32) -> Process {
        self.started(name, self.twin_command(name, slots), " ready.")
            .await
    }

    /// Starts the twin's consumer, and waits until it has its partition.
    pub async fn twin_consumer(&self) -> Process {
        let command = self.python(["-m", "worker.kafka_consumer"]);
        self.started("consumer", command, "Consuming the partitions")
            .await
    }

    /// `kafka_producer.py` with these options.
    pub fn twin_producer(&self, options: &[&str]) -> Command {
        let mut command = self.python(["-m", "kafka_producer"]);
        command.args(options);
        command
    }
}
