"""How many cores there are to work with."""


def cores(*, physical: bool) -> int:
    """The cores that this process may use, by its affinity and its container; physical: hyper-threads count as one."""
    # joblib takes as long to import as numpy, and a stage that computes little never asks.
    import joblib

    return int(joblib.cpu_count(only_physical_cores=physical))
