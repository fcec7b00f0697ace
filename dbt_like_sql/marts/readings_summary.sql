select
    r.patient_id,
    p.sex,
    p.pain_level,
    count(*) as readings,
    count(r.read) as assessed,
    count(*) filter (where r.read) as read,
    count(*) filter (where r.cut_short) as cut_short,
    count(*) filter (where not r.read) as not_read,
    median(r.word_error_rate) filter (where r.read) as word_error_rate
from readings_over_time as r
inner join stg_patients as p on p.patient_id = r.patient_id
group by r.patient_id, p.sex, p.pain_level
order by r.patient_id
