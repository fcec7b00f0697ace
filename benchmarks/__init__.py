"""Speed and sameness: the project's extraction against the naive baseline, in one run.

Belongs here: the baseline, the comparison, and the table that it prints.
Does not belong here: tests of promises (``iss_assets_tests``); these numbers depend on the machine.
"""
