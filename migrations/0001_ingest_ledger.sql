-- The ledger: what was loaded, and what became of every file seen.
--
-- Two tables, because they answer two questions. ingest_content decides, by its key, that the same bytes are loaded
-- once, whoever brings them and under whatever name. ingest_files says for each file what became of it.

create table ingest_content (
    -- SHA-256 of the whole file. A worker that loads takes this key first and holds it until its commit; a second one
    -- with the same bytes waits here, and then finds it taken. No other lock is needed.
    sha256      bytea       primary key check (length(sha256) = 32),
    -- Short name of the content in the data tables: 8 bytes a row instead of 32.
    content_id  bigint      generated always as identity unique,
    size_bytes  bigint      not null check (size_bytes >= 0),
    -- Rows in raw_sensor_data; written in the same transaction as they are.
    row_count   bigint      not null check (row_count > 0),
    -- The file that brought it first.
    file_name   text        not null,
    loaded_at   timestamptz not null default now()
);

comment on table ingest_content is 'One row for each content that was loaded: all its rows and aggregates, or none.';

create table ingest_files (
    file_id         bigint      generated always as identity primary key,
    -- As the message named it. What PostgreSQL or UTF-8 cannot hold stands here escaped (\x00, \xE9).
    path            text        not null,
    file_name       text        not null,
    state           text        not null check (state in ('loaded', 'duplicate', 'quarantined', 'missing')),
    -- Unknown where the file was gone, or was never opened.
    size_bytes      bigint,
    sha256          bytea       check (length(sha256) = 32),
    inode           bigint,
    modified_at     timestamptz,
    -- What was loaded, also for a duplicate: then it is what an earlier file had brought.
    content_id      bigint      references ingest_content (content_id),
    -- Why, as one sentence, and as the report that also lies beside the quarantined file.
    reason          text,
    reasons         jsonb,
    -- Where the bad file goes. Written before it is moved, moved_at after: a file that has the first and not the
    -- second is found again after a crash. Both empty: there was nothing that may be moved (a link, a directory).
    quarantine_path text,
    moved_at        timestamptz,
    -- The task that gave the verdict, and when.
    task_id         text,
    recorded_at     timestamptz not null default now(),
    -- Identity of the file while it lies at its path (a hash of path, inode, modification time and content; made by
    -- the worker). It makes a second delivery of the same file find this row instead of adding one. A hash, because a
    -- path may be longer than a btree entry; empty once the file has been moved, because it may be brought back.
    file_key        bytea       unique,

    check (state not in ('loaded', 'duplicate') or (content_id is not null and sha256 is not null)),
    check (state <> 'quarantined' or (reason is not null and reasons is not null)),
    check (moved_at is null or quarantine_path is not null)
);

comment on table ingest_files is 'One row for each file seen, with what became of it.';

-- A worker asks by path what is known of a file that is gone. Hashed: a path may be longer than a btree entry.
create index ingest_files_path on ingest_files using hash (path);
-- A duplicate names the file it repeats; a content is traced to all files that brought it.
create index ingest_files_content on ingest_files (content_id) where content_id is not null;
-- What still waits to be moved; nearly always empty.
create index ingest_files_unmoved on ingest_files (file_id) where quarantine_path is not null and moved_at is null;
