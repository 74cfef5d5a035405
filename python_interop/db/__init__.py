"""PostgreSQL: `config` connects, `query` runs statements, `load` puts a file in, `ledger` is the table ingest_files.

The tables are made by `celeriac db migrate`; nothing here creates or alters one.
"""
