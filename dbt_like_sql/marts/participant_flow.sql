with steps as (
    select 1 as step, 'enrolled' as stage, 'patients' as unit, count(*) as patients, count(*) as items
    from stg_patients
    union all
    select 2, 'with a survey', 'patients', count(distinct patient_id), count(distinct patient_id)
    from stg_submissions
    union all
    select 3, 'analyzed', 'patients', count(*), count(*)
    from stg_patients
    where analyzed
    union all
    select 4, 'survey submitted', 'submissions', count(distinct patient_id), count(*)
    from stg_submissions
    union all
    select 5, 'all nine scores answered', 'submissions', count(distinct patient_id), count(*)
    from stg_submissions
    where missing_scores = 0
    union all
    select 6, 'video submitted', 'videos', count(distinct patient_id), count(*)
    from stg_videos
    union all
    select 7, 'video readable', 'videos', count(distinct patient_id), count(*)
    from stg_videos
    where status = 'ok'
    union all
    select 8, 'frames sampled', 'videos', count(distinct patient_id), count(*)
    from stg_videos
    where extracted
    union all
    select 9, 'video usable', 'videos', count(distinct v.patient_id), count(*)
    from stg_videos as v
    inner join video_quality as q on q.video_id = v.video_id
    where v.extracted and q.usable
    -- this step exists only after quality was measured
    having (select count(*) from video_quality) > 0
    union all
    select 10, 'frame sampled', 'frames', count(distinct patient_id), coalesce(sum(frames), 0)
    from stg_videos
    where frames > 0 and patient_id in (select patient_id from stg_patients where analyzed)
    union all
    select 11, 'face found', 'frames', count(distinct patient_id), coalesce(sum(faces), 0)
    from stg_videos
    where faces > 0 and patient_id in (select patient_id from stg_patients where analyzed)
    union all
    select 12, 'landmarks found', 'frames', count(distinct patient_id), coalesce(sum(landmarks), 0)
    from stg_videos
    where landmarks > 0 and patient_id in (select patient_id from stg_patients where analyzed)
),
paper (stage, paper_items) as (
    values
        ('enrolled', 30),
        ('analyzed', 29),
        ('frames sampled', 509),
        ('frame sampled', 189999),
        ('face found', 173011),
        ('landmarks found', 168063)
),
compared as (
    select *, lag(items) over (partition by unit order by step) as before
    from steps
)
select
    c.step,
    c.stage,
    c.unit,
    c.patients,
    c.items,
    c.before - c.items as lost,
    (c.before - c.items) / nullif(c.before, 0) as lost_share,
    p.paper_items
from compared as c
left join paper as p on p.stage = c.stage
order by c.step
