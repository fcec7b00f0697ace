"""Experiments: what they learn from, networks and forests, training, and the folds."""

from iss_assets.loading import leave_out_triton

# before any module here imports torch
leave_out_triton()
