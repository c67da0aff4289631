"""Trial after trial, nothing grows. ``python -m benchmarks soak`` does 2 000."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_MEASURE = (
    "import json; from benchmarks.soak import measure_soak; print(json.dumps(measure_soak(60, worker=False)))"
)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_memory_handles_and_database_stay_flat() -> None:
    # In a process of its own: what earlier tests have left open may be closed meanwhile.
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", _MEASURE], cwd=root, check=True, stdout=subprocess.PIPE)
    found = json.loads(done.stdout)
    assert found["trials"] == 60
    assert abs(found["driver_handles"]) < 2
    assert found["database"] < 10_000, "bytes a trial"
    assert found["driver"] < 60_000, "bytes a trial"
