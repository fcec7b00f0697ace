-- One row per patient and table whose rows, or those that its rules also read ($sources of $readers), are newer than its
-- check results, whose checks never ended (the run was killed), or were made with other settings or code. Results of checks
-- that no longer exist do not count.
with stored as (
    select patient_id, table_name, max(made_at) as made_at
    from extractions
    group by patient_id, table_name
),
also_read as (
    select unnest($readers) as table_name, unnest($sources) as source
),
made as (
    select s.patient_id, s.table_name, max(greatest(s.made_at, coalesce(o.made_at, s.made_at))) as made_at
    from stored as s
    left join also_read as r on r.table_name = s.table_name
    left join stored as o on o.patient_id = s.patient_id and o.table_name = r.source
    group by s.patient_id, s.table_name
),
checked as (
    select patient_id, asset, min(evaluated_at) as evaluated_at, bool_and(fingerprint = $fingerprint) as current
    from check_results
    where list_contains($checks, asset || '.' || check_name)
    group by patient_id, asset
)
select m.patient_id, m.table_name
from made as m
left join checked as c on c.patient_id = m.patient_id and c.asset = m.table_name
where list_contains($tables, m.table_name) and not coalesce(c.current and c.evaluated_at >= m.made_at, false)
order by m.patient_id, m.table_name
