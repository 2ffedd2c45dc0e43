import sys
import time
from pathlib import Path

import pytest

from studio.core.domain import never_stop
from studio.core.errors import JobCancelled
from studio.exporting import certificate


@pytest.mark.parametrize("stop", [False, True])
def test_the_process_runs_to_its_end_or_until_the_owner_stops(tmp_path: Path, stop: bool) -> None:
    program = f"import sys, time; sys.stderr.write('last words'); sys.stderr.flush(); time.sleep({60 if stop else 0})"
    begun_s = time.monotonic()
    if stop:
        with pytest.raises(JobCancelled):
            certificate._run([sys.executable, "-c", program], tmp_path / "errors.txt", lambda: True)
    else:
        found = certificate._run([sys.executable, "-c", f"{program}; sys.exit(3)"], tmp_path / "errors.txt", never_stop)
        assert found == (3, "last words")
    assert time.monotonic() - begun_s < 50
