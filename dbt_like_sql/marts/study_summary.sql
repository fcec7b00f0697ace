-- One row, the study: the left half of the paper's Table 4. Patients without any frame are enrolled, but not counted
-- as patients here, as the paper leaves out patient 0009.
--
-- materialized: table
-- column enrolled: Patients enrolled. [not_null, range: 0..]
-- column patients: Patients with frames; the paper's 29. [not_null, range: 0..]
-- column male: Of these, male. [not_null]
-- column female: Of these, female. [not_null]
-- column skin_light: Of these, skin type I to III. [not_null]
-- column skin_dark: Of these, skin type IV to VI. [not_null]
-- column videos: Videos with frames. [not_null]
-- column frames: Sampled frames. [not_null]
-- column faces: Frames with a face. [not_null]
-- column landmarks: Faces with a mesh. [not_null]
-- column total_minutes: Duration of all these videos. [not_null]
-- column videos_per_patient: Mean; empty without patients.
-- column frames_per_patient: Mean.
-- column seconds_per_patient: Mean.
-- column seconds_per_video: Mean duration of a video.
-- column shortest_video_s: Duration of the shortest video.
-- column longest_video_s: Duration of the longest video.
-- test one_row: select 1 where (select count(*) from {this}) <> 1
-- test sexes_add_up: select * from {this} where male + female <> patients
-- test skin_groups_add_up: select * from {this} where skin_light + skin_dark <> patients
with totals as (
    select
        count(*) as enrolled,
        count(*) filter (where analysed) as patients,
        count(*) filter (where analysed and sex = 'M') as male,
        count(*) filter (where analysed and sex = 'F') as female,
        count(*) filter (where analysed and skin_group = 'light') as skin_light,
        count(*) filter (where analysed and skin_group = 'dark') as skin_dark,
        coalesce(sum(videos), 0) as videos,
        coalesce(sum(frames), 0) as frames,
        coalesce(sum(faces), 0) as faces,
        coalesce(sum(landmarks), 0) as landmarks,
        coalesce(sum(seconds), 0) as seconds
    from patient_summary
),
durations as (
    select min(seconds) as shortest_video_s, max(seconds) as longest_video_s
    from stg_videos
    where extracted
)
select
    t.enrolled,
    t.patients,
    t.male,
    t.female,
    t.skin_light,
    t.skin_dark,
    t.videos,
    t.frames,
    t.faces,
    t.landmarks,
    t.seconds / 60 as total_minutes,
    t.videos / nullif(t.patients, 0) as videos_per_patient,
    t.frames / nullif(t.patients, 0) as frames_per_patient,
    t.seconds / nullif(t.patients, 0) as seconds_per_patient,
    t.seconds / nullif(t.videos, 0) as seconds_per_video,
    d.shortest_video_s,
    d.longest_video_s
from totals as t
cross join durations as d
