-- One row a pair of scores, the pain target being the tenth: Pearson's r over submissions that answered both, and over
-- the patients' means. Submissions of one patient resemble each other, so the second is the safer one. The paper saw
-- above 0.89 among activity, mood, work, enjoyment and relations (section 5).
--
-- materialized: table
-- key: score_a, score_b
-- column score_a: The earlier score in the order of the questionnaire. [not_null]
-- column score_b: The later score. [not_null]
-- column number_a: Its place, 1 to 9. [range: 1..9]
-- column number_b: Its place, 2 to 10. [range: 2..10]
-- column submissions: Submissions that answered both. [not_null, range: 0..]
-- column pearson: Pearson's r over these submissions; empty under three or where one score never varies.
--   [range: -1.000001..1.000001]
-- column patients: Patients with such a submission. [not_null, range: 0..]
-- column pearson_patients: Pearson's r over these patients' means; empty under three or without variance.
--   [range: -1.000001..1.000001]
-- column paper_above: What the paper found r to exceed for this pair; empty where it says nothing.
with pairs as (
    select
        a.patient_id,
        a.score as score_a,
        b.score as score_b,
        a.score_number as number_a,
        b.score_number as number_b,
        a.value as value_a,
        b.value as value_b
    from stg_scores as a
    inner join stg_scores as b on b.submission_id = a.submission_id and a.score_number < b.score_number
),
over_submissions as (
    select
        score_a,
        score_b,
        number_a,
        number_b,
        count(*) as submissions,
        count(distinct patient_id) as patients,
        case
            when count(*) >= 3 and stddev_pop(value_a) > 0 and stddev_pop(value_b) > 0 then corr(value_a, value_b)
        end as pearson
    from pairs
    group by score_a, score_b, number_a, number_b
),
patient_means as (
    select score_a, score_b, patient_id, avg(value_a) as mean_a, avg(value_b) as mean_b
    from pairs
    group by score_a, score_b, patient_id
),
over_patients as (
    select
        score_a,
        score_b,
        case
            when count(*) >= 3 and stddev_pop(mean_a) > 0 and stddev_pop(mean_b) > 0 then corr(mean_a, mean_b)
        end as pearson_patients
    from patient_means
    group by score_a, score_b
)
select
    s.score_a,
    s.score_b,
    s.number_a,
    s.number_b,
    s.submissions,
    s.pearson,
    s.patients,
    p.pearson_patients,
    case
        when s.score_a in ('general_activity', 'mood', 'normal_work', 'relationships')
            and s.score_b in ('mood', 'normal_work', 'relationships', 'enjoyment_of_life') then cast(0.89 as double)
    end as paper_above
from over_submissions as s
inner join over_patients as p on p.score_a = s.score_a and p.score_b = s.score_b
order by s.number_a, s.number_b
