"""Where cells, baselines and images are kept where nobody says."""

from pathlib import Path


def state_folder() -> Path:
    """Return the folder below the user's cache."""
    from platformdirs import user_cache_path

    return user_cache_path("boardfit") / "benchmarks" / "rivals"
