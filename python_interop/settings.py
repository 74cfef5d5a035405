"""The twin's settings: the environment variables of the Rust program, with the same defaults.

README.md, "Settings", is the list. An empty variable counts as unset. There is no settings file on this side, so what
the Rust program has only there or as a flag (`visibility_timeout`) is a variable here.
"""
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    broker_url: str
    result_backend: str | None
    visibility_timeout: float  # seconds
    watch_dir: str  # also the root below which every path must lie; relative ones count from the working directory
    quarantine_dir: str
    log_dir: str
    bootstrap_servers: str
    topic: str
    group: str
    database_url: str  # empty: libpq's PG* variables

    @property
    def dlq_topic(self):
        return f"{self.topic}.dlq"


def load(environment=os.environ):
    def variable(name, default):
        return environment.get(name) or default

    return Settings(
        broker_url=variable("CELERY_BROKER_URL", "redis://localhost:6379/0"),
        result_backend=variable("CELERY_RESULT_BACKEND", None),
        visibility_timeout=float(variable("VISIBILITY_TIMEOUT", "3600")),
        watch_dir=variable("WATCH_DIR", "data"),
        quarantine_dir=variable("QUARANTINE_DIR", "quarantine"),
        log_dir=variable("LOG_DIR", "logs"),
        bootstrap_servers=variable("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
        topic=variable("KAFKA_TOPIC", "file_events"),
        group=variable("KAFKA_GROUP", "file-processing-group"),
        database_url=variable("DATABASE_URL", ""),
    )
