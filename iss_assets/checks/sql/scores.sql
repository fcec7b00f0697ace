-- One row per survey of the patient, in the order of `check_in_order.sent`, with its local day and whether its video exists. The
-- day is empty where no UTC offset is known.
with own as (
    select
        *,
        submitted_at at time zone 'UTC' as moment,
        submitted_at at time zone 'UTC' + to_minutes(utc_offset_minutes) as clock
    from bpi_scores
    where patient_id = $patient
)
select
    s.submission_id,
    s.submitted_at,
    s.submitted_on as day,
    s.pain_now,
    s.chronic_pain,
    s.general_activity,
    s.mood,
    s.walking_ability,
    s.normal_work,
    s.relationships,
    s.sleep,
    s.enjoyment_of_life,
    s.missing_scores,
    v.video_id is not null as has_video
from own as s
left join videos as v on v.video_id = s.submission_id and v.patient_id = s.patient_id
order by
    coalesce(
        s.moment,
        s.written_time - to_minutes(coalesce((
            select arg_min(k.utc_offset_minutes, (abs(epoch(k.clock) - epoch(s.written_time)), k.clock))
            from own as k
            where k.clock is not null
        ), 0))
    ),
    s.submission_id
