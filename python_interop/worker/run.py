"""One run of the task: what it works on, and how long it waits in its slot."""
import logging
import os
import random
import time
from dataclasses import dataclass, field

from db.query import Database
from errors import DeploymentError, Outage
from scripts.paths import message_bytes, on_one_line, printable
from settings import Settings

# Waits within one run, in seconds. After the last the slot is given back, and the task comes again through the broker.
PATIENCE_S = (1, 2, 4, 8)

# Not the task's own logger: the line begins as the seed's, whose words people search their logs for.
logger = logging.getLogger("worker")


@dataclass
class Run:
    settings: Settings
    database: Database
    file_path: str  # as the message names it
    task_id: str
    _waits: list = field(default_factory=lambda: list(PATIENCE_S))

    def __post_init__(self):
        self.working_dir = os.fsencode(os.getcwd())
        self.path = printable(message_bytes(self.file_path))
        self.task_id = printable(message_bytes(self.task_id))

    @property
    def shown(self):
        """The path for a log line."""
        return on_one_line(self.path)

    def persist(self, attempt):
        """Does `attempt` until it succeeds, fails for good, or the budget for waiting is used up."""
        while True:
            try:
                return attempt()
            except Outage as outage:
                self.wait_out(outage)

    def wait_out(self, outage):
        """Waits a while; the run has one budget for all outages. Raises the outage when that is used up."""
        if not self._waits:
            raise outage
        seconds = self._waits.pop(0)
        level = logging.ERROR if isinstance(outage, DeploymentError) else logging.WARNING
        logger.log(level, "Data from %s: %s; trying again in %s s.", self.shown, outage, seconds)
        time.sleep(jitter(seconds))


def jitter(seconds):
    """Up to a fifth more or less, so that what failed together does not come back together."""
    return seconds * random.uniform(0.8, 1.2)
