"""What the machine gives: how many threads this process may really use."""

import os
from pathlib import Path


def available_threads(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may use: its affinity, cut to the cgroup's quota, at least 1."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        limit = cpus if quota == "max" else int(int(quota) / int(period))
    except (OSError, ValueError):
        limit = cpus
    return max(1, min(cpus, limit))
