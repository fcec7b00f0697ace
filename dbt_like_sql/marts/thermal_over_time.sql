select
    t.patient_id,
    t.submission_id,
    s.submitted_on,
    s.study_day,
    b.pain_now,
    t.forehead_c,
    t.nose_c,
    t.forehead_c - t.nose_c as forehead_above_nose_c,
    t.forehead_c - median(t.forehead_c) over (partition by t.patient_id) as forehead_change_c,
    t.max_c,
    t.pair_gap_s
from thermal as t
left join stg_submissions as s on s.submission_id = t.submission_id
left join bpi_scores as b on b.submission_id = t.submission_id
where t.status = 'ok'
order by t.patient_id, s.submitted_on, t.submission_id
