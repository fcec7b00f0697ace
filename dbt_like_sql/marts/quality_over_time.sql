-- One row a calendar week with a submitted video, over all patients: whether pictures and sound get better or worse.
--
-- materialized: table
-- column week_start: Monday of the week, on the patients' own calendars. [unique, not_null]
-- column videos: Videos submitted. [not_null, range: 1..]
-- column patients: Patients who submitted them. [not_null, range: 1..]
-- column measured: Videos with quality measured. [not_null, range: 0..]
-- column usable_share: Usable over measured. [range: 0..1]
-- column face_rate: Frames with a face over frames. [range: 0..1]
-- column landmark_rate: Faces with a mesh over faces. [range: 0..1]
-- column luminance: Mean over videos of mean luma. [range: 0..1]
-- column snr_db: Median over videos.
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
)
select
    week_start,
    count(*) as videos,
    count(distinct patient_id) as patients,
    count(usable) as measured,
    avg(cast(usable as integer)) as usable_share,
    sum(faces) / nullif(sum(frames), 0) as face_rate,
    sum(landmarks) / nullif(sum(faces), 0) as landmark_rate,
    avg(luminance) as luminance,
    median(snr_db) as snr_db
from dated
group by week_start
order by week_start
