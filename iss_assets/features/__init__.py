"""Features: what is measured from what extraction stored of a video, one module per feature."""
