"""Many GPUs: one worker on each, and the one process that decides and writes."""
