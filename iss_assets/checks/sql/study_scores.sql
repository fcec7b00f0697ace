-- One row per question, over all submissions of the study with any answer.
with given as (
    select
        pain_now,
        cast(chronic_pain as integer) as chronic_pain,
        general_activity,
        mood,
        walking_ability,
        normal_work,
        relationships,
        sleep,
        enjoyment_of_life
    from bpi_scores
    where missing_scores < 9
),
answers as (
    select question, answer
    from given unpivot include nulls (answer for question in (columns(*)))
),
values_counted as (
    select question, answer, count(*) as answers
    from answers
    where answer is not null
    group by question, answer
),
most_frequent as (
    select question, max(answers) as answers, count(*) as different
    from values_counted
    group by question
)
select
    a.question,
    count(*) as submissions,
    1 - count(a.answer) / count(*) as missing_share,
    avg(a.answer) as mean,
    stddev_pop(a.answer order by a.answer) as deviation,
    any_value(m.answers) / nullif(count(a.answer), 0) as top_share,
    any_value(m.different) as different
from answers as a
left join most_frequent as m on m.question = a.question
group by a.question
order by a.question
