"""The sample study has adults and children in the proportion that the paper plans for."""

from __future__ import annotations

from collections import Counter

from iss_assets.synthetic.plan import plan


def test_twenty_two_of_112_patients_are_pediatric_and_a_larger_study_changes_nobody() -> None:
    ages = [p.age_group for p in plan(112, 1, 1)]
    assert Counter(ages) == {"adult": 90, "pediatric": 22}
    assert [p.age_group for p in plan(30, 2, 1)] == ages[:30]
    assert Counter(ages[:30]) == {"adult": 25, "pediatric": 5}
