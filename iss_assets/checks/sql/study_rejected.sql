-- One row per file and reason: rows, cells and files of the study folder that were not used and that no patient's check
-- reports (`rejected.sql` has the survey rows of enrolled patients).
select
    case when contains(file, '/') then split_part(file, '/', 1) else file end as file,
    code,
    count(*) as rows
from rejected_rows
where not (file = 'surveys.csv' and coalesce(patient_id, '') in (select patient_id from patients))
group by all
order by all
