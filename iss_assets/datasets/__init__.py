"""From rows of the warehouse to arrays for training."""
