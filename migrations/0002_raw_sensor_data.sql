-- The rows of all loaded files.
--
-- Written by COPY, a file a transaction, and never updated. What would slow that down is left out on purpose:
--   * no unique (content_id, line_no): the key of ingest_content lets a content in once, so that a second set of its
--     lines cannot come; a btree over every row would cost more than half of the loading speed;
--   * no foreign key to ingest_content: it would look the parent up once for every row. The same transaction has
--     written that parent.
-- Both can be checked at any time:
--   select content_id, line_no from raw_sensor_data group by 1, 2 having count(*) > 1;
--   select c.content_id from ingest_content c
--     full join (select content_id, count(*) as n from raw_sensor_data group by 1) r using (content_id)
--    where c.row_count is distinct from r.n;

create table raw_sensor_data (
    ts          timestamptz      not null,
    device      text             not null,
    co          double precision not null,
    humidity    double precision not null,
    light       boolean          not null,
    lpg         double precision not null,
    motion      boolean          not null,
    smoke       double precision not null,
    temp        double precision not null,
    file_name   text             not null,
    -- Where the row comes from: ingest_content.content_id, and the line of the file on which it begins.
    content_id  bigint           not null,
    line_no     bigint           not null
);

comment on table raw_sensor_data is 'One row for each line of a loaded file.';

-- Block ranges: next to nothing to keep up while loading, and enough here, because the rows of a file lie together and
-- files come roughly in the order of time.
create index raw_sensor_data_content on raw_sensor_data using brin (content_id) with (autosummarize = on);
create index raw_sensor_data_ts on raw_sensor_data using brin (ts) with (autosummarize = on);
