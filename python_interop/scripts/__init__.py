"""What a file is: its path, its bytes, its verdict, and its way to quarantine. Nothing here knows Celery or PostgreSQL.

paths      a path as text to a place below the root
opening    only regular files there
records    bytes to CSV records
validate   records to rows, and the verdict on the file
aggregate  statistics per device and metric
report     what is wrong with a file
utils      quarantine_file, log_error
naming     entries that appear whole, and never in place of another

Specification: docs/ingest-rules.md. No code is shared with the Rust program.
"""
