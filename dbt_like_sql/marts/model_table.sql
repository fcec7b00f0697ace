with paper (
    place, experiment, paper_experiment, model, data, classes, all_classes,
    "none", low, moderate, severe, no_pain, pain
) as (
    values
        (1, 'resnet50_4_static', 1, 'ResNet50-4-static', 'Faces, only', 4, 0.378, 0.583, 0.168, 0.252, 0.213, null, null),
        (2, 'resnet50_2_static', 1, 'ResNet50-2-static', 'Faces, only', 2, 0.568, null, null, null, null, 0.513, 0.612),
        (3, 'forest_landmarks', 2, 'Random Forest LM', 'Landmarks, only', 2, 0.373, null, null, null, null, 0.479, 0.287),
        (4, 'forest_pain', 3, 'Random Forest Pain', 'Pain Scores, only', 2, 0.650, null, null, null, null, 0.706, 0.602),
        (5, 'fusion_1', 4, 'Fusion 1', 'Faces + Landmarks', 2, 0.513, null, null, null, null, 0.304, 0.683),
        (6, 'fusion_2', 5, 'Fusion 2', 'Faces + Landmarks + Pain Scores', 2, 0.631, null, null, null, null, 0.563, 0.687),
        (7, 'fusion_3', 6, 'Fusion 3', 'Faces + Landmarks + Pain Scores', 2, 0.657, null, null, null, null, 0.582, 0.717),
        (8, 'audio_static', 7, 'Static Audio', 'Audio, only', 2, 0.456, null, null, null, null, 0.645, 0.303)
),
folds as (
    select count(*) as split_patients
    from cv_splits
)
select
    coalesce(p.place, 8 + row_number() over (partition by p.place is null order by r.experiment)) as place,
    coalesce(p.experiment, r.experiment) as experiment,
    p.paper_experiment,
    coalesce(p.model, r.experiment) as model,
    p.data,
    coalesce(r.classes, p.classes) as classes,
    r.patients,
    r.all_classes,
    r.all_classes_low,
    r.all_classes_high,
    r."none",
    r.low,
    r.moderate,
    r.severe,
    r.no_pain,
    r.pain,
    cast(p.all_classes as double) as paper_all_classes,
    cast(p."none" as double) as paper_none,
    cast(p.low as double) as paper_low,
    cast(p.moderate as double) as paper_moderate,
    cast(p.severe as double) as paper_severe,
    cast(p.no_pain as double) as paper_no_pain,
    cast(p.pain as double) as paper_pain,
    cast(r.all_classes - p.all_classes as double) as difference,
    r.above_half,
    r.above_three_quarters,
    r.balanced_accuracy,
    r.best_baseline,
    r.best_baseline_accuracy,
    r.p_value_holm,
    r.profile,
    r.weights_origin,
    f.split_patients
from paper as p
full outer join experiment_results as r on r.experiment = p.experiment
cross join folds as f
order by place
