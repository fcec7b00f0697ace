select
    f.patient_id,
    f.video_id,
    s.submitted_on,
    s.study_day,
    b.pain_now,
    f.measured,
    f.seconds,
    f.away_share,
    f.turn_speed_median,
    f.still_share,
    f.yaw_sd_deg,
    f.pitch_sd_deg,
    f.blinks_per_minute,
    f.closed_share,
    f.mouth_motion,
    f.lip_corners_range,
    f.brow_lowering_p90
from face_behavior_summary as f
left join stg_submissions as s on s.submission_id = f.video_id
left join bpi_scores as b on b.submission_id = f.video_id
where f.chunk_index = -1
order by f.patient_id, s.submitted_on, f.video_id
