with per_patient as (
    select
        patient_id,
        count(*) filter (where extracted) as videos,
        sum(frames) as frames,
        sum(faces) as faces,
        sum(landmarks) as landmarks,
        coalesce(sum(seconds order by seconds) filter (where extracted), 0) as seconds,
        avg(seconds order by seconds) filter (where extracted) as seconds_per_video,
        count(*) filter (where not extracted) as unreadable_videos
    from stg_videos
    group by patient_id
)
select
    p.patient_id,
    p.cohort,
    p.sex,
    p.skin_group,
    p.age_group,
    p.pain_level,
    p.pain_class,
    coalesce(v.videos, 0) as videos,
    coalesce(v.frames, 0) as frames,
    coalesce(v.faces, 0) as faces,
    coalesce(v.landmarks, 0) as landmarks,
    coalesce(v.seconds, 0) as seconds,
    v.seconds_per_video,
    coalesce(v.unreadable_videos, 0) as unreadable_videos,
    p.analyzed
from stg_patients as p
left join per_patient as v on v.patient_id = p.patient_id
order by p.patient_id
