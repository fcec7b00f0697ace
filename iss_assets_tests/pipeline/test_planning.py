"""The decision which runs the study needs, without Dagster."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iss_assets.intake.folder import read_study, score_rows
from iss_assets.pipeline.launcher import largest_first
from iss_assets.pipeline.planning import (
    MARTS,
    PATIENT_JOB,
    STUDY,
    WORDS_JOB,
    Attempt,
    Plan,
    Request,
    StudyState,
    can_heal,
    plan,
    subject_of,
)
from iss_assets.pipeline.staleness import with_latest_day
from iss_assets.protocol.terms import SCORES
from iss_assets.settings import SensorSettings

NOW = 1_800_000_000.0
SETTINGS = SensorSettings(batch=3, attempts=3, retry_s=100, marts_wait_s=1000)


def state_of(**given: object) -> StudyState:
    return StudyState(**{"enrolled": ["0001"], "stale": {}, "unsettled": {}, "partitions": ["0001"], **given})  # type: ignore[arg-type]


def subjects(decision: Plan) -> list[str]:
    return [r.subject for r in decision.requests]


def test_nothing_new_asks_for_nothing() -> None:
    decision = plan(state_of(), NOW, SETTINGS)
    assert decision == Plan()
    assert decision.summary() == "everything is up to date"


def test_a_new_patient_is_enrolled_and_run_in_the_same_tick() -> None:
    decision = plan(state_of(partitions=[], stale={"0001": "a"}), NOW, SETTINGS)
    assert decision.add_partitions == ("0001",)
    assert decision.requests == (Request("patient", "0001", "a", "0001:a:first"),)
    assert decision.requests[0].partition == "0001"


def test_only_the_patient_whose_files_changed_is_run() -> None:
    both = ["0001", "0002"]
    assert subjects(plan(state_of(enrolled=both, partitions=both, stale={"0002": "b"}), NOW, SETTINGS)) == [
        "0002"
    ]


def test_a_video_that_is_still_copied_makes_only_its_patient_wait() -> None:
    both = ["0001", "0002"]
    decision = plan(
        state_of(
            enrolled=both, partitions=[], stale={"0001": "a", "0002": "b"}, unsettled={"0001": ("v.mp4",)}
        ),
        NOW,
        SETTINGS,
    )
    assert subjects(decision) == ["0002"]
    assert decision.waiting == {"0001": "a video may still be being copied"}
    assert decision.add_partitions == ("0001", "0002")


def test_a_patient_at_work_is_not_run_twice_at_once() -> None:
    decision = plan(state_of(stale={"0001": "a"}, in_flight={"0001"}), NOW, SETTINGS)
    assert not decision.requests
    assert decision.waiting == {"0001": "a run is in progress"}


def test_the_patients_of_a_backfill_are_left_to_it_and_no_others() -> None:
    decision = plan(
        state_of(enrolled=["0001", "0002"], stale={"0001": "a", "0002": "a"}, backfilled={"0001"}),
        NOW,
        SETTINGS,
    )
    assert subjects(decision) == ["0002"]
    assert decision.waiting == {"0001": "a backfill is in progress"}


def test_a_patient_who_left_the_study_folder_is_reported_and_never_deleted_or_run() -> None:
    decision = plan(state_of(enrolled=[], partitions=["0001"], stale={}), NOW, SETTINGS)
    assert decision.not_enrolled == ("0001",)
    assert not decision.requests
    assert "nothing deleted: 0001" in decision.summary()


def test_asking_twice_before_a_run_exists_uses_one_key() -> None:
    state = state_of(stale={"0001": "a"})
    assert plan(state, NOW, SETTINGS).requests == plan(state, NOW + 60, SETTINGS).requests


def test_a_failed_run_is_tried_again_later_with_a_new_key_and_longer_waits() -> None:
    attempts = [Attempt("run-one-id", "a", NOW)]
    early = plan(state_of(stale={"0001": "a"}, attempts={"0001": attempts}), NOW + 99, SETTINGS)
    assert not early.requests
    assert early.waiting["0001"].startswith("will be tried again in")
    late = plan(state_of(stale={"0001": "a"}, attempts={"0001": attempts}), NOW + 100, SETTINGS)
    assert late.requests[0].key == "0001:a:run-one-"
    twice = [Attempt("run-two-id", "a", NOW + 100), *attempts]
    assert not plan(state_of(stale={"0001": "a"}, attempts={"0001": twice}), NOW + 299, SETTINGS).requests
    assert plan(state_of(stale={"0001": "a"}, attempts={"0001": twice}), NOW + 300, SETTINGS).requests


def test_retries_stop_at_the_limit_and_start_again_when_something_changes() -> None:
    attempts = {"0001": [Attempt(f"run{i}", "a", NOW - i) for i in range(3)]}
    stuck = plan(state_of(stale={"0001": "a"}, attempts=attempts), NOW + 10**6, SETTINGS)
    assert not stuck.requests
    assert stuck.given_up == {"0001": "failed 3 times; see its last run"}
    assert subjects(plan(state_of(stale={"0001": "new"}, attempts=attempts), NOW, SETTINGS)) == ["0001"]


def test_a_failure_that_cannot_heal_is_not_tried_again() -> None:
    attempts = {"0001": [Attempt("run", "a", NOW - 10**6, can_heal=False)]}
    assert plan(state_of(stale={"0001": "a"}, attempts=attempts), NOW, SETTINGS).given_up.keys() == {"0001"}
    assert subjects(plan(state_of(stale={"0001": "b"}, attempts=attempts), NOW, SETTINGS)) == ["0001"]


def test_going_back_to_an_earlier_state_is_run_again() -> None:
    """A submission taken out and put back makes a state that had its runs long ago."""
    attempts = {
        "0001": [
            Attempt("run4", "b", NOW),
            Attempt("run3", "a", NOW),
            Attempt("run2", "a", NOW),
            Attempt("run1", "a", NOW),
        ]
    }
    (request,) = plan(state_of(stale={"0001": "a"}, attempts=attempts), NOW, SETTINGS).requests
    assert request.key == "0001:a:run4"


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([], True),
        (["LockTimeout"], True),
        (["OSError"], True),
        (["MemoryError"], True),
        (["WarehouseAway"], True),
        (["WarehouseError"], False),
        (["InvalidTable"], False),
        (["KeyError", "TypeError"], False),
        (["KeyError", "OSError"], True),
    ],
)
def test_program_faults_do_not_heal_and_disk_memory_and_locks_may(errors: list[str], expected: bool) -> None:
    assert can_heal(errors) is expected


def test_an_initial_load_comes_in_portions_and_a_failing_patient_does_not_block_it() -> None:
    many = [f"{i:04d}" for i in range(10)]
    stale = dict.fromkeys(many, "a")
    decision = plan(
        state_of(enrolled=many, partitions=many, stale=stale, attempts={"0000": [Attempt("r", "a", 0.0)]}),
        NOW,
        SETTINGS,
    )
    assert subjects(decision) == ["0001", "0002", "0003"]
    assert decision.waiting["0000"] == "enough runs are queued"
    full = plan(
        state_of(enrolled=many, partitions=many, stale=stale, in_flight={"0001", "0002", "0003"}),
        NOW,
        SETTINGS,
    )
    assert not full.requests


def test_marts_wait_for_patients_and_follow_when_all_is_quiet() -> None:
    assert MARTS not in subjects(plan(state_of(stale={"0001": "a"}, marts="m"), NOW, SETTINGS))
    assert MARTS not in subjects(plan(state_of(in_flight={"0001"}, marts="m", marts_at=NOW), NOW, SETTINGS))
    assert subjects(plan(state_of(marts="m", marts_at=NOW), NOW, SETTINGS)) == [MARTS]
    assert not plan(state_of(marts="m", marts_at=NOW, in_flight={MARTS}), NOW, SETTINGS).requests


def test_words_come_when_no_patient_is_being_extracted_and_the_pages_do_not_wait_for_them() -> None:
    both = {"enrolled": ["0001", "0002"], "partitions": ["0001", "0002"]}
    early = plan(state_of(**both, stale={"0001": "a"}, words={"0002": "w"}, marts="m"), NOW, SETTINGS)
    assert subjects(early) == ["0001"]
    assert early.waiting["words of 0002"] == "runs of patients come first"
    still = plan(state_of(**both, in_flight={"0001"}, words={"0002": "w"}), NOW, SETTINGS)
    assert not still.requests
    quiet = plan(state_of(**both, words={"0001": "v", "0002": "w"}, marts="m", marts_at=NOW), NOW, SETTINGS)
    assert subjects(quiet) == ["words of 0001", "words of 0002", MARTS]
    first = quiet.requests[0]
    assert (first.job, first.partition, first.key) == ("words", "0001", "words of 0001:v:first")


def test_words_that_are_being_recognized_hold_back_the_pages_their_patient_and_nobody_else() -> None:
    both = {"enrolled": ["0001", "0002"], "partitions": ["0001", "0002"], "in_flight": {"words of 0001"}}
    decision = plan(
        state_of(
            **both,
            stale={"0001": "a", "0002": "b"},
            words={"0001": "v", "0002": "w"},
            marts="m",
            marts_at=NOW,
        ),
        NOW,
        SETTINGS,
    )
    assert subjects(decision) == ["0002"]
    assert decision.waiting["0001"] == "a run is in progress"
    more = plan(state_of(**both, words={"0001": "v", "0002": "w"}, marts="m", marts_at=NOW), NOW, SETTINGS)
    assert subjects(more) == ["words of 0002"]
    overdue = plan(state_of(**both, marts="m", marts_at=NOW - 1000), NOW, SETTINGS)
    assert subjects(overdue) == [MARTS]


def test_words_that_cannot_be_recognized_are_given_up_and_their_patient_is_not() -> None:
    attempts = {"words of 0001": [Attempt("run", "w", NOW, can_heal=False)]}
    decision = plan(state_of(words={"0001": "w"}, attempts=attempts, marts="m"), NOW, SETTINGS)
    assert decision.given_up.keys() == {"words of 0001"}
    assert subjects(decision) == [MARTS]
    assert subjects(plan(state_of(stale={"0001": "a"}, attempts=attempts), NOW, SETTINGS)) == ["0001"]
    many = [f"{i:04d}" for i in range(5)]
    portion = plan(
        state_of(
            enrolled=many, partitions=many, in_flight={"words of 0000"}, words=dict.fromkeys(many[1:], "w")
        ),
        NOW,
        SETTINGS,
    )
    assert subjects(portion) == ["words of 0001", "words of 0002"]
    assert portion.waiting["words of 0003"] == "enough runs are queued"


def test_training_and_reports_block_nothing_else() -> None:
    decision = plan(
        state_of(stale={}, in_flight={"forest_pain|3", "reports"}, marts="m", marts_at=NOW), NOW, SETTINGS
    )
    assert subjects(decision) == [MARTS]


def test_marts_do_not_wait_for_ever_behind_a_stream_of_patients() -> None:
    decision = plan(state_of(in_flight={"0001"}, marts="m", marts_at=NOW - 1000), NOW, SETTINGS)
    assert subjects(decision) == [MARTS]


def test_a_patient_who_keeps_failing_does_not_hold_back_the_marts() -> None:
    attempts = {"0001": [Attempt("run", "a", NOW, can_heal=False)]}
    assert subjects(plan(state_of(stale={"0001": "a"}, attempts=attempts, marts="m"), NOW, SETTINGS)) == [
        MARTS
    ]


def test_what_is_wrong_with_the_folder_is_kept_by_a_run_of_its_own() -> None:
    decision = plan(state_of(study="s"), NOW, SETTINGS)
    assert decision.requests == (Request("study_folder", STUDY, "s", "study_folder:s:first"),)
    assert decision.requests[0].partition is None


IDS_OF_ALL = [f"{i:04d}" for i in range(6)]
IDS = st.sampled_from(IDS_OF_ALL)
WORDS = IDS.map(lambda patient: subject_of(WORDS_JOB, patient))
SEEN = st.builds(
    StudyState,
    enrolled=st.frozensets(IDS),
    stale=st.dictionaries(IDS, st.sampled_from("ab")),
    words=st.dictionaries(IDS, st.sampled_from("ab")),
    unsettled=st.dictionaries(IDS, st.just(("v.mp4",))),
    partitions=st.frozensets(IDS),
    in_flight=st.frozensets(st.one_of(IDS, WORDS, st.sampled_from([STUDY, MARTS]))),
    attempts=st.dictionaries(
        st.one_of(IDS, WORDS, st.sampled_from([STUDY, MARTS])),
        st.lists(
            st.builds(
                Attempt,
                run_id=st.uuids().map(str),
                state=st.sampled_from("ab"),
                ended_at=st.floats(NOW - 1000, NOW),
                can_heal=st.booleans(),
            ),
            max_size=5,
        ),
    ),
    study=st.none() | st.just("a"),
    marts=st.none() | st.just("a"),
    marts_at=st.none() | st.floats(NOW - 2000, NOW),
    backfilled=st.frozensets(IDS),
)


@given(SEEN)
def test_whatever_is_seen_the_plan_keeps_its_promises(state: StudyState) -> None:
    decision = plan(state, NOW, SETTINGS)
    asked = subjects(decision)
    patients = [r.subject for r in decision.requests if r.job == PATIENT_JOB]
    words = [r.partition for r in decision.requests if r.job == WORDS_JOB]
    assert len(set(asked)) == len(asked)
    assert not set(asked) & set(state.in_flight)
    assert not set(asked) & set(decision.waiting) and not set(asked) & set(decision.given_up)
    assert set(patients) <= set(state.enrolled) & set(state.stale)
    assert not set(patients) & set(state.unsettled)
    assert len(patients) + len(words) <= SETTINGS.batch
    assert not (patients and words)
    assert set(words) <= set(state.enrolled) & set(state.words)
    assert not set(words) & set(state.backfilled)
    # two runs of one patient would wait for each other
    busy = {*state.in_flight, *(p for p in IDS_OF_ALL if subject_of(WORDS_JOB, p) in state.in_flight)}
    assert not {*patients, *words} & busy
    assert set(patients) <= set(state.partitions) | set(decision.add_partitions)
    assert set(decision.add_partitions) == set(state.enrolled) - set(state.partitions)
    assert not set(patients) & set(state.backfilled)
    # everybody with something to do is asked for, waits, or was given up: nobody is forgotten
    todo = set(state.stale) & set(state.enrolled)
    todo |= {subject_of(WORDS_JOB, p) for p in set(state.words) & set(state.enrolled)}
    assert todo == todo & (set(asked) | set(decision.waiting) | set(decision.given_up))
    for request in decision.requests:
        tries = list(state.attempts.get(request.subject, ()))
        assert not (tries and tries[0].state == request.state and not tries[0].can_heal)


@given(SEEN, st.randoms())
def test_the_order_in_which_things_are_listed_changes_nothing(
    state: StudyState, shuffler: random.Random
) -> None:
    stale = list(state.stale.items())
    shuffler.shuffle(stale)
    other = replace(state, stale=dict(stale), enrolled=sorted(state.enrolled, reverse=True))
    assert plan(other, NOW, SETTINGS) == plan(state, NOW, SETTINGS)


@given(
    st.lists(
        st.tuples(IDS, st.sampled_from(["change", "copying", "settle", "leave", "fail once", "tick"])),
        max_size=40,
    )
)
def test_a_study_always_comes_to_rest_with_every_patient_current(events: list[tuple[str, str]]) -> None:
    """A small world: files with versions, runs that succeed or fail, and a tick after whatever happened."""
    files: dict[str, int] = {}
    stored: dict[str, int] = {}
    copying: set[str] = set()
    failing: set[str] = set()
    partitions: set[str] = set()
    attempts: dict[str, list[Attempt]] = {}
    keys: set[str] = set()
    clock = NOW

    def tick() -> int:
        nonlocal clock
        clock += 10_000
        state = StudyState(
            enrolled=list(files),
            stale={p: f"{v}-{stored.get(p)}" for p, v in files.items() if stored.get(p) != v},
            unsettled=dict.fromkeys(copying, ("v",)),
            partitions=partitions,
            attempts=attempts,
        )
        decision = plan(state, clock, SETTINGS)
        partitions.update(decision.add_partitions)
        for request in decision.requests:
            assert request.key not in keys, "Dagster would take this for the same request and do nothing"
            assert request.subject not in copying
            keys.add(request.key)
            if request.subject in failing:
                failing.discard(request.subject)
            else:
                stored[request.subject] = files[request.subject]
            run = Attempt(f"{len(keys):08d}", request.state, clock)
            attempts[request.subject] = [run, *attempts.get(request.subject, [])]
        return len(decision.requests)

    for patient, event in events:
        if event == "change":
            files[patient] = (files.get(patient, 0) + 1) % 3
        elif event == "copying":
            copying.add(patient)
        elif event == "settle":
            copying.discard(patient)
        elif event == "leave":
            files.pop(patient, None)
        elif event == "fail once":
            failing.add(patient)
        else:
            tick()
    copying.clear()
    for _ in range(10):
        tick()
    assert {p: stored.get(p) for p in files} == files
    assert tick() == 0


@pytest.mark.parametrize(
    ("enrollment", "surveys", "newest"),
    [
        # the latest day is a submission, or an enrollment without one, or several have it
        (
            {"0001": "2021-01-04", "0002": "2021-01-05", "0003": "2021-01-06"},
            {"0002": "2021-03-01"},
            {"0002"},
        ),
        (
            {"0001": "2021-01-04", "0002": "2021-01-05", "0003": "2021-05-06"},
            {"0002": "2021-03-01"},
            {"0003"},
        ),
        (
            {"0001": "2021-01-04", "0002": "2021-01-05", "0003": "2021-03-01"},
            {"0002": "2021-03-01"},
            {"0002", "0003"},
        ),
        # nobody has a day that is known
        ({"0001": "", "0002": "", "0003": ""}, {}, set()),
    ],
)
def test_who_has_the_latest_day_of_the_study_is_known_from_the_folder(
    tmp_path: Path, enrollment: dict[str, str], surveys: dict[str, str], newest: set[str]
) -> None:
    lines = [f"{p},1A,F,I,3,{day},-05:00,adult" for p, day in enrollment.items()]
    header = "patient_id,cohort,sex,skin_type,pain_target,enrolled_on,utc_offset,age_group"
    (tmp_path / "enrollment.csv").write_text("\n".join([header, *lines, ""]))
    answers = ",".join(["1"] * len(SCORES))
    rows = [f"{p}-01,{p},{day}T10:00:00-05:00,home,{answers}" for p, day in surveys.items()]
    columns = ",".join(["submission_id,patient_id,submitted_at,setting", *SCORES])
    (tmp_path / "surveys.csv").write_text("\n".join([columns, *rows, ""]))
    (tmp_path / "videos").mkdir()
    folder = read_study(tmp_path)
    assert {row["patient_id"] for row in score_rows(folder)} == {*surveys}
    assert with_latest_day(folder) == newest


def test_who_has_most_to_be_read_is_run_first(tmp_path: Path) -> None:
    sizes = {"0001-01": 10, "0001-02": 15, "0002-01": 40, "0003-01": 25, "0005-01": 1}
    ids = ["0001", "0002", "0003", "0004", "0005"]
    lines = [f"{p},1A,F,I,3,2021-01-04,-05:00,adult" for p in ids]
    header = "patient_id,cohort,sex,skin_type,pain_target,enrolled_on,utc_offset,age_group"
    (tmp_path / "enrollment.csv").write_text("\n".join([header, *lines, ""]))
    columns = ",".join(["submission_id,patient_id,submitted_at,setting", *SCORES])
    answers = ",".join(["1"] * len(SCORES))
    rows = [f"{s},{s[:4]},2021-02-0{s[-1]}T10:00:00-05:00,home,{answers}" for s in sizes]
    (tmp_path / "surveys.csv").write_text("\n".join([columns, *rows, ""]))
    for submission, size in sizes.items():
        path = tmp_path / "videos" / submission[:4] / f"{submission}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    folder = read_study(tmp_path)
    assert largest_first(folder, ids) == ["0002", "0001", "0003", "0005", "0004"]
    assert largest_first(folder, ["0005", "0003"]) == ["0003", "0005"]


def test_who_has_the_latest_day_of_the_study_is_run_first_but_not_before_those_tried_less_often() -> None:
    ids = ["0001", "0002", "0003", "0004"]
    stale = dict.fromkeys(ids, "a")
    first = plan(state_of(enrolled=ids, partitions=ids, stale=stale, newest={"0003"}), NOW, SETTINGS)
    assert subjects(first) == ["0003", "0001", "0002"]
    failed = {"0003": [Attempt("run", "a", NOW - 500)]}
    later = plan(
        state_of(enrolled=ids, partitions=ids, stale=stale, newest={"0003"}, attempts=failed), NOW, SETTINGS
    )
    assert subjects(later) == ["0001", "0002", "0004"]
