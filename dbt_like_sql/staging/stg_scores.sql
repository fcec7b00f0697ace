with answers as (
    select submission_id, patient_id, 1 as score_number, 'pain_now' as score, cast(pain_now as double) as value
    from bpi_scores
    union all
    select submission_id, patient_id, 2, 'chronic_pain', cast(chronic_pain as integer)
    from bpi_scores
    union all
    select submission_id, patient_id, 3, 'general_activity', general_activity
    from bpi_scores
    union all
    select submission_id, patient_id, 4, 'mood', mood
    from bpi_scores
    union all
    select submission_id, patient_id, 5, 'walking_ability', walking_ability
    from bpi_scores
    union all
    select submission_id, patient_id, 6, 'normal_work', normal_work
    from bpi_scores
    union all
    select submission_id, patient_id, 7, 'relationships', relationships
    from bpi_scores
    union all
    select submission_id, patient_id, 8, 'sleep', sleep
    from bpi_scores
    union all
    select submission_id, patient_id, 9, 'enjoyment_of_life', enjoyment_of_life
    from bpi_scores
    union all
    select s.submission_id, s.patient_id, 10, 'pain_target', p.pain_target
    from bpi_scores as s
    inner join patients as p on p.patient_id = s.patient_id
)
select submission_id, patient_id, score_number, score, value
from answers
where value is not null
