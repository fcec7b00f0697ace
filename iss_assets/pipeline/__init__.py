"""What is stale, which runs to ask for, running them, and what they found."""
