-- One row a patient: videos, frames and seconds, as in the histograms of the paper's Figure 2.
--
-- materialized: table
-- column patient_id: Patient id. [unique, not_null, relationships: patients.patient_id]
-- column cohort: Cohort number. [not_null]
-- column sex: M or F.
-- column skin_group: light or dark.
-- column pain_level: Level of the pain target.
-- column pain_class: No Pain or Pain.
-- column videos: Videos that frames were sampled from. [not_null, range: 0..]
-- column frames: Sampled frames. [not_null, range: 0..]
-- column faces: Frames with a face. [not_null, range: 0..]
-- column landmarks: Faces with a mesh. [not_null, range: 0..]
-- column seconds: Duration of these videos together. [not_null, range: 0..]
-- column seconds_per_video: Mean duration; empty without videos. [range: 0..]
-- column unreadable_videos: Videos submitted that nothing could be sampled from. [not_null, range: 0..]
-- column analysed: Whether there is any frame: such patients make the paper's 29. [not_null]
with per_patient as (
    select
        patient_id,
        count(*) filter (where extracted) as videos,
        sum(frames) as frames,
        sum(faces) as faces,
        sum(landmarks) as landmarks,
        coalesce(sum(seconds) filter (where extracted), 0) as seconds,
        avg(seconds) filter (where extracted) as seconds_per_video,
        count(*) filter (where not extracted) as unreadable_videos
    from stg_videos
    group by patient_id
)
select
    p.patient_id,
    p.cohort,
    p.sex,
    p.skin_group,
    p.pain_level,
    p.pain_class,
    coalesce(v.videos, 0) as videos,
    coalesce(v.frames, 0) as frames,
    coalesce(v.faces, 0) as faces,
    coalesce(v.landmarks, 0) as landmarks,
    coalesce(v.seconds, 0) as seconds,
    v.seconds_per_video,
    coalesce(v.unreadable_videos, 0) as unreadable_videos,
    coalesce(v.frames, 0) > 0 as analysed
from stg_patients as p
left join per_patient as v on v.patient_id = p.patient_id
order by p.patient_id
