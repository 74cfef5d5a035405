"""From a record in Kafka to a file's fate.

kafka_consumer  a record becomes a task
file_event      which records are good, and the task's id
tasks           the Celery app and `process_file_task`
process_file    from a path to its fate: the one place that decides
refuse          what is done with a bad file
run             one run of the task: how long it waits in its slot
outcome         the result, and what keeps it away
"""
