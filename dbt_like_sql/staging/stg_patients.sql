-- One row an enrolled patient, with the two-level class and the order of the levels.
--
-- materialized: view
-- column patient_id: Patient id of the study. [unique, not_null]
-- column cohort: Cohort 1A to 4D of the paper's Table 2. [not_null]
-- column sex: M or F. [not_null, accepted_values: M, F]
-- column skin_type: Fitzpatrick skin type. [not_null, accepted_values: I, II, III, IV, V, VI]
-- column skin_group: light (I to III) or dark (IV to VI). [not_null, accepted_values: light, dark]
-- column pain_target: Worst pain of the thirty days before enrollment. [not_null, range: 0..10]
-- column pain_level: None, Low, Moderate or Severe. [not_null, accepted_values: None, Low, Moderate, Severe]
-- column level_number: 1 for None to 4 for Severe, to sort by. [range: 1..4]
-- column pain_class: No Pain or Pain (section 4, Experiment 1). [accepted_values: No Pain, Pain]
-- column enrolled_on: Day of enrollment; empty where the study folder names none.
-- column utc_offset_minutes: The patient's offset from UTC; 0 where the study folder names none. [not_null]
select
    patient_id,
    cohort,
    sex,
    skin_type,
    skin_group,
    pain_target,
    pain_level,
    case pain_level when 'None' then 1 when 'Low' then 2 when 'Moderate' then 3 else 4 end as level_number,
    case pain_level when 'None' then 'No Pain' else 'Pain' end as pain_class,
    enrolled_on,
    coalesce(utc_offset_minutes, 0) as utc_offset_minutes
from patients
