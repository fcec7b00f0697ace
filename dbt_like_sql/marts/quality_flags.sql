with flagged as (
    select q.video_id, q.patient_id, f.flag, q.unusable_reason
    from video_quality as q
    cross join unnest(q.flags) as f (flag)
),
measured as (
    select count(*) as videos
    from video_quality
)
select
    f.flag,
    count(distinct f.video_id) as videos,
    count(distinct f.video_id) / any_value(m.videos) as video_share,
    count(distinct f.patient_id) as patients,
    count(distinct f.video_id) filter (where f.unusable_reason = f.flag) as unusable
from flagged as f
cross join measured as m
group by f.flag
order by videos desc, f.flag
