-- One row an answered score of a submission, as a number; the pain target of the patient counts as a tenth score.
--
-- materialized: view
-- key: submission_id, score
-- column submission_id: Submission id. [not_null]
-- column patient_id: Patient id. [not_null]
-- column score_number: 1 to 9 in the order of the questionnaire, 10 for the pain target. [range: 1..10]
-- column score: Name of the score; pain_target is fixed for a patient.
-- column value: 0 to 10; chronic_pain is 1 for yes and 0 for no. [not_null, range: 0..10]
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
