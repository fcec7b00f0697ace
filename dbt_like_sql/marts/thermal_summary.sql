select
    p.patient_id,
    p.pain_level,
    count(*) as pictures,
    count(t.forehead_c) as measured,
    count(t.pair_gap_s) as paired,
    median(t.forehead_c) as forehead_c,
    median(t.nose_c) as nose_c,
    median(t.forehead_above_nose_c) as forehead_above_nose_c,
    max(t.forehead_c) - min(t.forehead_c) as forehead_change_c
from thermal_over_time as t
inner join stg_patients as p on p.patient_id = t.patient_id
group by p.patient_id, p.pain_level
order by p.patient_id
