with videos as (
    select
        f.patient_id,
        f.video_id,
        f.method,
        count(*) as moments,
        sum(f.faces) as faces,
        -- moments of fewer faces are not compared
        count(*) filter (where f.faces >= 3) as compared,
        max(f.distance) filter (where f.faces >= 3) as widest_distance
    from face_identity as f
    group by f.patient_id, f.video_id, f.method
),
pairs as (
    select patient_id, method, video_id, other_video_id, distance
    from face_distances
    union all
    select patient_id, method, other_video_id as video_id, video_id as other_video_id, distance
    from face_distances
),
others as (
    select
        patient_id,
        method,
        video_id,
        count(*) as other_videos,
        median(distance) as distance_to_others
    from pairs
    group by patient_id, method, video_id
)
select
    v.patient_id,
    v.video_id,
    s.submitted_on,
    s.study_day,
    v.method,
    v.moments,
    v.faces,
    v.compared,
    v.widest_distance,
    coalesce(o.other_videos, 0) as other_videos,
    o.distance_to_others
from videos as v
left join others as o
    on o.patient_id = v.patient_id and o.method = v.method and o.video_id = v.video_id
left join stg_submissions as s on s.submission_id = v.video_id
order by v.patient_id, s.submitted_on, v.video_id, v.method
