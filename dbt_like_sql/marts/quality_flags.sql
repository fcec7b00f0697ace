-- One row a flag of video quality: how many videos and patients have it, and how many videos it makes unusable.
--
-- materialized: table
-- column flag: The flag; docs/quality.md says what it means. [unique, not_null]
-- column videos: Videos with it. [not_null, range: 1..]
-- column video_share: Share of all measured videos. [not_null, range: 0..1]
-- column patients: Patients with such a video. [not_null, range: 1..]
-- column unusable: Videos that are unusable for this reason. [not_null, range: 0..]
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
