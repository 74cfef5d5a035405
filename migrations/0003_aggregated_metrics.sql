-- Statistics per file content, device and metric, written with the rows that they sum up.

create table aggregated_metrics (
    device       text             not null,
    metric       text             not null check (metric in ('co', 'humidity', 'lpg', 'smoke', 'temp')),
    min_value    double precision not null,
    max_value    double precision not null,
    avg_value    double precision not null,
    -- Of a sample (n - 1). A single row has none: NULL, not NaN.
    std_dev      double precision,
    -- Exact, over all values of the file.
    median_value double precision not null,
    count        bigint           not null check (count > 0),
    file_name    text             not null,
    -- Few rows a file, so both keys are affordable here.
    content_id   bigint           not null references ingest_content (content_id),
    primary key (content_id, device, metric)
);

comment on table aggregated_metrics is 'Per file, device and metric: range, mean, sample deviation, exact median.';
