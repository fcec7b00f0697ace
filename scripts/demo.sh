#!/usr/bin/env bash
# The sample study from nothing to the result table. What is already done is not done again.
set -euo pipefail
bin=$1 demo=$2
export ISS_STUDY=$demo/study ISS_HOME=$demo/home ISS_TRAINING__PROFILE=demo
# 19 retrainings on permuted labels instead of 199, and fewer resamples: p cannot fall below 0.05 then, and minutes are saved
export ISS_EVALUATION__RETRAINED_PERMUTATIONS=19 ISS_EVALUATION__BOOTSTRAP_SAMPLES=999 ISS_EVALUATION__PERMUTATIONS=999
export ISS_CHECK_INS__BOOTSTRAP_SAMPLES=499 ISS_CHECK_INS__PERMUTATIONS=999
# the study has one reading of five seconds
export ISS_PROMPT__ENABLED=true
say() { printf '\n== %s\n' "$*"; }

say "1/5 a study of invented patients"
"$bin/iss" sample-study "$demo/study" --words
say "2/5 from the study folder to tables, quality and marts"
"$bin/iss" run --no-models
say "3/5 the paper's experiments, small (profile: demo)"
"$bin/iss" train
say "4/5 results (invented patients, all but one network from random weights: the figures mean nothing)"
"$bin/iss" sql "select experiment, patients, all_classes, no_pain, pain, above_half, best_baseline, best_baseline_accuracy from experiment_results order by experiment"
say "5/5 another invented study, predicted by this one's models without training"
# in syllables: nothing is said in this one that the other study's models of words could read
export ISS_WORDS__ENABLED=false
"$bin/iss" sample-study "$demo/other_study" --patients 2 --check-ins 2 --seed 1
"$bin/iss" run --study "$demo/other_study" --home "$demo/other_home" --no-models
"$bin/iss" predict --models "$ISS_HOME" --study "$demo/other_study" --home "$demo/other_home"
cat <<TEXT

The report:      $demo/home/reports/study_report.html
For the clinic:  $demo/home/reports/clinic_report.html
The study page:  $demo/home/reports/study_page.html
The quality:     $demo/home/reports/quality.html
Another study:   $(ls "$demo"/other_home/reports/external_validation_*.html)
                 $(ls "$demo"/other_home/reports/external_clinic_*.html)
The web pages:   ISS_STUDY=$ISS_STUDY ISS_HOME=$ISS_HOME ISS_PROMPT__ENABLED=true $bin/iss serve     then open the link it prints
TEXT
