with interference as (
    select submission_id, avg(value order by value) as interference
    from stg_scores
    where score_number between 3 and 9
    group by submission_id
),
since_enrollment as (
    select s.patient_id, min(s.sent) as sent
    from stg_submissions as s
    inner join bpi_scores as b on b.submission_id = s.submission_id
    inner join stg_patients as p on p.patient_id = s.patient_id
    where coalesce(s.submitted_on, cast(b.written_time as date)) >= p.enrolled_on
    group by s.patient_id
),
events as (
    select
        p.patient_id,
        'enrolled' as event,
        p.enrolled_on as happened_on,
        0 as study_day,
        null as happened_at,
        coalesce(e.sent, cast('infinity' as timestamp)) as sent,
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
    from stg_patients as p
    left join since_enrollment as e on e.patient_id = p.patient_id
    where p.enrolled_on is not null
    union all
    select
        s.patient_id,
        'submission',
        s.submitted_on,
        s.study_day,
        s.submitted_local,
        s.sent,
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
            partition by patient_id
            order by sent, event, submission_id
        ) as event_number
    from events
)
select
    patient_id,
    event_number,
    event,
    happened_on,
    happened_at,
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
