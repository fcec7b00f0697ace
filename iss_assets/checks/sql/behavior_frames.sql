-- One row per video of the patient whose behavior was measured: how its samples fit the meshes that they were measured in.
with meshes as (
    select l.video_id, l.frame_index, f.time_s
    from landmarks as l
    inner join frames as f on f.video_id = l.video_id and f.frame_index = l.frame_index
    where l.patient_id = $patient and l.detected
),
samples as (
    select video_id, frame_index, time_s
    from face_behavior
    where patient_id = $patient
),
measured as (
    select video_id from samples
    union
    select video_id from face_behavior_summary where patient_id = $patient
)
select
    video_id,
    count(s.time_s) as samples,
    count(*) filter (s.time_s is null and m.time_s is not null) as without_sample,
    count(*) filter (m.time_s is null and s.time_s is not null) as without_mesh,
    count(*) filter (abs(s.time_s - m.time_s) > 0.001) as at_another_time
from samples as s
full join meshes as m using (video_id, frame_index)
right join measured using (video_id)
group by video_id
order by video_id
