with dated as (
    select
        cast(date_trunc('week', s.submitted_on) as date) as week_start,
        v.patient_id,
        v.frames,
        v.faces,
        v.landmarks,
        v.luminance,
        a.snr_db,
        q.usable
    from stg_videos as v
    inner join stg_submissions as s on s.submission_id = v.video_id
    left join video_quality as q on q.video_id = v.video_id
    left join audio as a on a.video_id = v.video_id
    where s.submitted_on is not null
)
select
    week_start,
    count(*) as videos,
    count(distinct patient_id) as patients,
    count(usable) as measured,
    avg(cast(usable as integer)) as usable_share,
    sum(faces) / nullif(sum(frames), 0) as face_rate,
    sum(landmarks) / nullif(sum(faces), 0) as landmark_rate,
    avg(luminance order by luminance) as luminance,
    median(snr_db) as snr_db
from dated
group by week_start
order by week_start
