-- One row an event of a patient: enrollment, then every submission, with the answers in numbers, the video and its
-- quality flags.
--
-- materialized: table
-- key: patient_id, event_number
-- column patient_id: Patient id. [not_null, relationships: patients.patient_id]
-- column event_number: Order of the patient's events from 1. [not_null, range: 1..]
-- column event: enrolled or submission. [not_null, accepted_values: enrolled, submission]
-- column happened_on: Day where the patient lives. [not_null]
-- column study_day: Days since the start. [not_null]
-- column days_since_last: Days since the patient's event before.
-- column submission_id: Submission id; empty for enrollment.
-- column setting: home or clinic.
-- column timeframe: Time of day.
-- column pain_now: Question 1. [range: 0..10]
-- column interference: Mean of the answered questions 3 to 9. [range: 0..10]
-- column missing_scores: How many of the nine answers are missing. [range: 0..9]
-- column has_video: Whether a video was submitted with it; empty for enrollment.
-- column video_status: ok, or why nothing can be seen in it.
-- column seconds: Duration of the video. [range: 0..]
-- column frames: Sampled frames. [range: 0..]
-- column faces: Frames with a face. [range: 0..]
-- column flags: Quality flags.
-- column usable: Whether training may take it.
with interference as (
    select submission_id, avg(value) as interference
    from stg_scores
    where score_number between 3 and 9
    group by submission_id
),
events as (
    select
        patient_id,
        'enrolled' as event,
        enrolled_on as happened_on,
        0 as study_day,
        null as submitted_at,
        null as submission_id,
        null as setting,
        null as timeframe,
        null as pain_now,
        null as interference,
        null as missing_scores,
        null as has_video,
        null as video_status,
        null as seconds,
        null as frames,
        null as faces,
        null as flags,
        null as usable
    from stg_patients
    where enrolled_on is not null
    union all
    select
        s.patient_id,
        'submission',
        s.submitted_on,
        s.study_day,
        s.submitted_at,
        s.submission_id,
        s.setting,
        s.timeframe,
        b.pain_now,
        i.interference,
        s.missing_scores,
        v.video_id is not null,
        v.status,
        v.seconds,
        v.frames,
        v.faces,
        q.flags,
        q.usable
    from stg_submissions as s
    inner join bpi_scores as b on b.submission_id = s.submission_id
    left join interference as i on i.submission_id = s.submission_id
    left join stg_videos as v on v.video_id = s.submission_id
    left join video_quality as q on q.video_id = s.submission_id
),
ordered as (
    select
        *,
        row_number() over (
            partition by patient_id order by happened_on, submitted_at nulls first, submission_id
        ) as event_number
    from events
)
select
    patient_id,
    event_number,
    event,
    happened_on,
    study_day,
    date_diff('day', lag(happened_on) over (partition by patient_id order by event_number), happened_on)
        as days_since_last,
    submission_id,
    setting,
    timeframe,
    pain_now,
    interference,
    missing_scores,
    has_video,
    video_status,
    seconds,
    frames,
    faces,
    flags,
    usable
from ordered
order by patient_id, event_number
