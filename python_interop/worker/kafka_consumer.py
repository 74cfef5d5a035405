"""Makes a task of every file event in Kafka.

    cd python_interop && python -m worker.kafka_consumer

Guarantee F3: an offset is committed only when Redis has accepted the task, or Kafka the copy of a bad record. While Redis
is away its partitions are paused: nothing is committed, and the group is not left. A send whose reply was lost is repeated
with the same id.
"""
import logging
import os
import random
import signal
import sys

import kombu.exceptions
import redis.exceptions
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

import failpoints
import settings
from worker.file_event import BadRecord, parse, task_id
from worker.tasks import process_file_task

logger = logging.getLogger("kafka_consumer")

# Pauses between two attempts to send to Redis, in seconds.
RETRY_FIRST_S = 0.1
RETRY_LONGEST_S = 5

# What is kept of a bad record's value that Kafka does not take whole; the value itself still stands where the headers say.
KEPT_BYTES = 256 * 1024

NOT_ACCEPTED = (kombu.exceptions.OperationalError, redis.exceptions.RedisError, OSError)


class NotHandled(Exception):
    """Told to stop, or the partition went to another member, while a server was away: the record comes again."""


class FileEventConsumer:
    def __init__(self, config):
        self._config = config
        self._working_dir = os.fsencode(os.getcwd())
        self._watch_dir = os.fsencode(config.watch_dir)
        self._is_stopping = False
        self._is_redis_away = False
        self._consumer = Consumer(
            {
                "bootstrap.servers": config.bootstrap_servers,
                "group.id": config.group,
                "client.id": "celeriac-twin",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                # A topic that does not exist yet is looked for this often.
                "topic.metadata.refresh.interval.ms": 10_000,
                "error_cb": _heard,
            }
        )
        self._dead_letters = Producer(
            {
                "bootstrap.servers": config.bootstrap_servers,
                "client.id": "celeriac-twin",
                "enable.idempotence": True,
                "acks": "all",
                "message.timeout.ms": 0,
                "message.max.bytes": 10_485_760,
            }
        )

    def stop(self, *_):
        self._is_stopping = True

    def run(self):
        """Forwards records until told to stop."""
        self._consumer.subscribe([self._config.topic], on_assign=self._assigned)
        try:
            while not self._is_stopping:
                if message := self._next():
                    self._handle_or_leave(message)
        finally:
            self._consumer.close()

    def _next(self):
        message = self._consumer.poll(0.5)
        if message is None:
            return None
        if error := message.error():
            if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                logger.info("Waiting for the topic: %s", error.str())
            else:
                logger.warning("Kafka: %s", error.str())
            return None
        return message

    def _handle_or_leave(self, message):
        try:
            self._handle(message)
        except NotHandled:
            self._go_on()

    def _handle(self, message):
        try:
            event = parse(message.value(), self._working_dir, self._watch_dir)
        except BadRecord as bad:
            place = (message.topic(), message.partition(), message.offset())
            logger.error("Bad record (%s) in topic %s, partition %s, offset %s: %s", bad.reason, *place, bad)
            self._keep(message, bad)
        else:
            self._send(message, event)
        failpoints.reach("before_offset_commit")
        try:
            self._consumer.commit(message=message, asynchronous=False)
        except KafkaException as error:
            # Read again by whoever has the partition next; the ledger makes that harmless.
            logger.warning("Cannot commit offset %s: %s", message.offset(), error)
        failpoints.reach("after_offset_commit")

    def _send(self, message, event):
        identity = task_id(event, message.topic(), message.partition(), message.offset())
        failpoints.reach("before_enqueue")
        pause = RETRY_FIRST_S
        while not self._is_accepted(event, identity):
            self._wait(pause, message)
            pause = min(2 * pause, RETRY_LONGEST_S)
        failpoints.reach("after_enqueue")
        logger.info("Sent %r as task %s", event.file_path, identity)
        if self._is_redis_away:
            logger.info("The broker is available again")
            self._go_on()

    def _go_on(self):
        self._is_redis_away = False
        self._consumer.resume(self._consumer.assignment())

    def _is_accepted(self, event, identity):
        try:
            policy = {"max_retries": 1, "interval_start": 0.05}
            process_file_task.apply_async((event.file_path,), task_id=identity, retry_policy=policy)
        except NOT_ACCEPTED as error:
            if not self._is_redis_away:
                logger.warning("The broker is not available: tasks wait, and nothing is committed (%s)", error)
                self._is_redis_away = True
                self._consumer.pause(self._consumer.assignment())
            return False
        return True

    def _wait(self, seconds, message):
        """Goes on polling, which keeps the membership; what comes in is put back."""
        early = self._consumer.poll(seconds * random.uniform(0.5, 1))
        if early is not None and not early.error():
            self._put_back(early)
        is_ours = any(
            (place.topic, place.partition) == (message.topic(), message.partition())
            for place in self._consumer.assignment()
        )
        if self._is_stopping or not is_ours:
            raise NotHandled

    def _put_back(self, message):
        place = TopicPartition(message.topic(), message.partition(), message.offset())
        self._consumer.pause([place])
        self._consumer.seek(place)

    def _assigned(self, consumer, partitions):
        names = ", ".join(f"{place.topic}/{place.partition}" for place in partitions)
        logger.info("Consuming the partitions %s", names or "(none)")
        if self._is_redis_away:
            consumer.pause(partitions)

    def _keep(self, message, bad):
        """Copies a bad record, with its place and the reason in headers, to the dead letter topic."""
        headers = [*(message.headers() or []), *_dead_letter_headers(message, bad)]
        value = message.value()
        if not self._is_delivered(message, value, headers):
            headers.append(("truncated", str(len(value)).encode()))
            self._is_delivered(message, value[:KEPT_BYTES], headers)

    def _is_delivered(self, message, value, headers):
        """Sends and waits for Kafka's word. False: too large, and only a smaller one helps."""
        reports = []
        try:
            self._dead_letters.produce(
                self._config.dlq_topic,
                key=message.key(),
                value=value,
                headers=headers,
                on_delivery=lambda error, _message: reports.append(error),
            )
        except KafkaException as error:
            reports.append(error.args[0])
        while not reports:
            self._dead_letters.poll(0.5)
            if self._is_stopping:
                raise NotHandled
        if reports[0] is None:
            return True
        if reports[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return False
        raise KafkaException(reports[0])


def _dead_letter_headers(message, bad):
    kind, milliseconds = message.timestamp()
    texts = {
        "reason": bad.reason,
        "error": str(bad),
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        **({"timestamp": milliseconds} if kind else {}),
    }
    return [(name, str(text).encode("utf-8", "backslashreplace")) for name, text in texts.items()]


def _heard(error):
    """What librdkafka says outside of any call: a broker that is away, mostly. It goes on trying."""
    logger.warning("Kafka: %s", error.str())


def main():
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s: %(levelname)s/%(name)s] %(message)s")
    config = settings.load()
    consumer = FileEventConsumer(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, consumer.stop)
    logger.info("Consuming topic %s at %s as group %s", config.topic, config.bootstrap_servers, config.group)
    consumer.run()


if __name__ == "__main__":
    sys.exit(main())
