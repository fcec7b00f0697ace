select
    i.patient_id,
    p.sex,
    p.skin_group,
    count(distinct i.video_id) as videos,
    count(distinct i.video_id) filter (where i.compared > 0) as compared,
    sum(i.moments) as moments,
    max(i.widest_distance) as widest_distance,
    median(i.distance_to_others) as distance_to_others,
    max(i.distance_to_others) as largest_distance_to_others
from identity_over_time as i
inner join stg_patients as p on p.patient_id = i.patient_id
group by i.patient_id, p.sex, p.skin_group
order by i.patient_id
