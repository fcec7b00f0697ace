with answers as (
    select
        s.patient_id,
        s.submitted_on,
        s.study_day,
        p.pain_level,
        b.*
    from stg_submissions as s
    inner join (
        select
            submission_id,
            pain_now,
            chronic_pain,
            general_activity,
            mood,
            walking_ability,
            normal_work,
            relationships,
            sleep,
            enjoyment_of_life
        from bpi_scores
    ) as b on b.submission_id = s.submission_id
    inner join stg_patients as p on p.patient_id = s.patient_id
    where s.submitted_on is not null
),
daily as (
    select
        patient_id,
        submitted_on,
        study_day,
        count(*) as submissions,
        any_value(pain_level) as pain_level,
        avg(pain_now) as pain_now,
        avg(cast(chronic_pain as integer)) as chronic_pain,
        avg(general_activity) as general_activity,
        avg(mood) as mood,
        avg(walking_ability) as walking_ability,
        avg(normal_work) as normal_work,
        avg(relationships) as relationships,
        avg(sleep) as sleep,
        avg(enjoyment_of_life) as enjoyment_of_life
    from answers
    group by patient_id, submitted_on, study_day
)
select
    *,
    list_avg([
        general_activity, mood, walking_ability, normal_work, relationships, sleep, enjoyment_of_life
    ]) as interference
from daily
order by patient_id, submitted_on
