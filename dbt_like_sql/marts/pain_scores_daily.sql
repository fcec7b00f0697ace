-- One row a patient and day with a submission, on the patient's own calendar: the nine scores, their mean where there
-- were several submissions.
--
-- materialized: table
-- key: patient_id, submitted_on
-- column patient_id: Patient id. [not_null, relationships: patients.patient_id]
-- column submitted_on: Day where the patient lives. [not_null]
-- column study_day: Days since enrollment. [not_null]
-- column submissions: Submissions on the day; the protocol asks for at most one. [not_null, range: 1..]
-- column pain_level: The patient's level at enrollment. [not_null]
-- column pain_now: Question 1. [range: 0..10]
-- column chronic_pain: Question 2: share of answers that were yes. [range: 0..1]
-- column general_activity: Question 3. [range: 0..10]
-- column mood: Question 4. [range: 0..10]
-- column walking_ability: Question 5. [range: 0..10]
-- column normal_work: Question 6. [range: 0..10]
-- column relationships: Question 7. [range: 0..10]
-- column sleep: Question 8. [range: 0..10]
-- column enjoyment_of_life: Question 9. [range: 0..10]
-- column interference: Mean of questions 3 to 9 of those answered. [range: 0..10]
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
