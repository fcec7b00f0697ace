"""Speed and sameness: the project's extraction against the naive baseline, in one run.

The figures depend on the machine, so they are not tests.
"""
