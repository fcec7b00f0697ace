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
            when count(*) >= 3 and min(value_a) < max(value_a) and min(value_b) < max(value_b)
                then corr(value_a, value_b order by value_a, value_b)
        end as pearson
    from pairs
    group by score_a, score_b, number_a, number_b
),
patient_means as (
    select score_a, score_b, patient_id, avg(value_a order by value_a) as mean_a, avg(value_b order by value_b) as mean_b
    from pairs
    group by score_a, score_b, patient_id
),
over_patients as (
    select
        score_a,
        score_b,
        case
            when count(*) >= 3 and min(mean_a) < max(mean_a) and min(mean_b) < max(mean_b)
                then corr(mean_a, mean_b order by mean_a, mean_b)
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
