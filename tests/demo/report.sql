-- What has become of the files, and whether it is right. Run by psql in the demo's directory; fails where it is not.

create temp table expected (file_name text, fate text, rows bigint, reasons text, special text);
\copy expected from 'files.tsv'

-- Counted from the rows themselves, not from what the ledger says of them.
create temp view found as
select f.file_name, f.state as fate, f.reason,
       case when f.state = 'loaded' then (select count(*) from raw_sensor_data r where r.content_id = f.content_id)
            else 0 end as rows,
       (select coalesce(string_agg(key, ',' order by key), '') from jsonb_object_keys(f.reasons -> 'by_reason') key) as reasons
from ingest_files f;

create temp view fates as
select file_name, coalesce(e.fate, 'unexpected') as expected, coalesce(f.fate, 'ignored') as fate, f.rows, f.reason,
       e.special,
       e.fate = coalesce(f.fate, 'ignored') and e.rows = coalesce(f.rows, 0)
           and coalesce(e.reasons, '') = coalesce(f.reasons, '') as is_right
from expected e full join found f using (file_name);

\echo
select fate, count(*) as files, coalesce(sum(rows), 0) as rows,
       case when bool_and(is_right is true) then 'as expected' else 'DIFFERS' end as verdict
from fates group by fate order by min(array_position(array['loaded', 'duplicate', 'quarantined', 'ignored'], fate));

\echo 'All but the plain good ones:'
select fate, file_name, regexp_replace(coalesce(reason, special), '^(.{90}).{2,}$', '\1…') as "reason, or what is special"
from fates
where is_right is not true or fate <> 'loaded' or special <> ''
order by array_position(array['loaded', 'duplicate', 'quarantined', 'ignored'], fate), file_name;

-- Every aggregate once more, computed by PostgreSQL over the raw rows.
create temp view long_rows as
select content_id, device, metric, value
from raw_sensor_data,
     lateral (values ('co', co), ('humidity', humidity), ('lpg', lpg), ('smoke', smoke), ('temp', temp)) m (metric, value);

create temp table recomputed as
select content_id, device, metric, min(value) as min_value, max(value) as max_value, avg(value) as avg_value,
       stddev_samp(value) as std_dev, percentile_cont(0.5) within group (order by value) as median_value, count(*)
from long_rows group by content_id, device, metric;

-- Sums of doubles depend on their order: mean, deviation and median may differ in the last digits. The rest may not.
create function pg_temp.is_close(a double precision, b double precision) returns boolean
    return a is not distinct from b or abs(a - b) <= 1e-9 * greatest(abs(a), abs(b));

create temp view compared as
select content_id, device, metric, s.count,
       w.min_value = s.min_value and w.max_value = s.max_value and w.count = s.count
           and pg_temp.is_close(w.avg_value, s.avg_value) and pg_temp.is_close(w.std_dev, s.std_dev)
           and pg_temp.is_close(w.median_value, s.median_value) as is_equal
from aggregated_metrics w full join recomputed s using (content_id, device, metric);

create temp view side_by_side as
select 1 as line, 'worker' as who, content_id, device, metric, min_value, max_value, avg_value, std_dev, median_value, count
from aggregated_metrics
union all
select 2, 'SQL', content_id, device, metric, min_value, max_value, avg_value, std_dev, median_value, count
from recomputed;

select content_id, file_name from ingest_content order by content_id limit 1 \gset
\set device b8:27:eb:bf:9d:51
\echo One device of :file_name, as the worker has written it and as SQL computes it over the raw rows:
select metric, who, round(min_value::numeric, 6) as min, round(max_value::numeric, 6) as max,
       round(avg_value::numeric, 9) as avg, round(std_dev::numeric, 9) as std_dev,
       round(median_value::numeric, 9) as median, s.count,
       case when line = 2 then case when is_equal then 'OK' else 'DIFFERS' end end as verdict
from side_by_side s join compared using (content_id, device, metric)
where device = :'device' and content_id = :content_id
order by metric, line;

\echo All files, devices and metrics:
select count(*) as aggregates, count(distinct device) as devices, sum(count) filter (where metric = 'co') as rows,
       count(*) filter (where is_equal) as equal, count(*) filter (where is_equal is not true) as different
from compared;

do $$
declare
    wrong text;
begin
    select string_agg(format('%s: %s instead of %s', file_name, fate, expected), '; ') into wrong
    from fates where is_right is not true;
    if wrong is not null then
        raise exception 'not as expected: %', wrong;
    end if;
    if exists (select from compared where is_equal is not true) or not exists (select from compared) then
        raise exception 'aggregates differ from what SQL computes';
    end if;
end $$;
