"""Worker processes are born with the C library's variables, and their parent's environment stays."""

import os
import subprocess
import sys

import pytest

from iimt_search.study.executors.processes import KEEP_FREED_MEMORY, keeping_freed_memory

# Counts the pages that the system hands over while blocks are allocated, filled and freed.
FAULTS = """
import resource
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [b'x' * (16 << 20) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults() -> int:
    return int(subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True).stdout)


@pytest.mark.skipif("glibc" not in str(os.confstr("CS_GNU_LIBC_VERSION")), reason="another C library")
def test_a_process_that_is_started_so_keeps_what_it_freed() -> None:
    returned = faults()
    with keeping_freed_memory():
        assert faults() * 10 < returned


def test_the_parents_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "0")
    before = dict(os.environ)
    with keeping_freed_memory():
        added = os.environ.keys() - before.keys()
        assert os.environ["MALLOC_TOP_PAD_"] == "0"  # the user's own
    assert added == KEEP_FREED_MEMORY.keys() - {"MALLOC_TOP_PAD_"}
    assert dict(os.environ) == before
