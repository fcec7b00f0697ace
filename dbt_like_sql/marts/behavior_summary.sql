select
    f.patient_id,
    p.sex,
    p.pain_level,
    count(*) as videos,
    count(f.turn_speed_median) as measured,
    sum(f.seconds order by f.seconds) / 60 as minutes,
    median(f.away_share) as away_share,
    median(f.turn_speed_median) as turn_speed_median,
    median(f.still_share) as still_share,
    median(f.yaw_sd_deg) as yaw_sd_deg,
    median(f.pitch_sd_deg) as pitch_sd_deg,
    median(f.blinks_per_minute) as blinks_per_minute,
    median(f.closed_share) as closed_share,
    median(f.mouth_motion) as mouth_motion,
    median(f.lip_corners_range) as lip_corners_range,
    median(f.brow_lowering_p90) as brow_lowering_p90
from behavior_over_time as f
inner join stg_patients as p on p.patient_id = f.patient_id
group by f.patient_id, p.sex, p.pain_level
order by f.patient_id
