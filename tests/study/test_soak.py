"""Trial after trial, nothing grows. ``python -m benchmarks soak`` does 2 000."""

from pathlib import Path

import pytest

from benchmarks.soak import measure_soak


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_memory_handles_and_database_stay_flat() -> None:
    found = measure_soak(60, worker=False)
    assert found["trials"] == 60
    assert abs(found["driver_handles"]) < 2
    assert found["database"] < 10_000, "bytes a trial"
    assert found["driver"] < 60_000, "bytes a trial"
