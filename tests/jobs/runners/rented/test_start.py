"""The first command of a rented machine, run as such a machine does."""

import inspect
import os
import subprocess
import sys

import pytest

from studio.jobs.runners.needs import NEEDS
from studio.jobs.runners.rented import start

JOB = "check-0123456789abcdef"


def boot(away, tmp_path, token, needs=NEEDS, number=1):
    """Run it with nothing of ours in its environment; return its exit status and what it says."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment |= {"STUDIO_START_URL": f"{away.address}/attempts/{JOB}/{number}", "STUDIO_START_TOKEN": token}
    environment |= {"STUDIO_DEVICE": "cpu", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", inspect.getsource(start), *needs]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=200, cwd=tmp_path, check=False)
    return done.returncode, done.stderr.decode()


def test_a_machine_that_comes_too_late_or_with_a_wrong_token_gets_nothing(away, tmp_path, small_code, ticket_of):
    ticket_of_away = ticket_of(_parts(away))
    assert boot(away, tmp_path, "wrong")[0] == 3
    away.queue.attempts[JOB] = 2
    assert boot(away, tmp_path, ticket_of_away.token)[0] == 3


def test_packages_that_lack_are_installed_from_the_studios_own_list(away, tmp_path, small_code, ticket_of):
    status, said = boot(away, tmp_path, ticket_of(_parts(away)).token, ("no_such_module",))
    assert status == 1 and "requirements.txt" in said  # which the small archive does not hold


def test_a_ticket_is_given_out_until_its_agent_has_begun(away, ticket_of):
    ticket = ticket_of(_parts(away))
    again = away.desk.hand_out(JOB, 1)
    assert (again["job"], again["attempt"], again["token"]) == (JOB, 1, ticket.token)
    away.desk.box(f"{JOB}.1").called = True
    with pytest.raises(Exception, match="no longer given out"):
        away.desk.hand_out(JOB, 1)


@pytest.mark.slow
def test_the_code_that_the_server_sends_carries_an_attempt_out(away, tmp_path, ticket_of):
    token = ticket_of(_parts(away)).token
    status, said = boot(away, tmp_path, token)
    # The scripted verb is not part of what is sent: the agent of the sent code says so, and that is an end, too.
    assert status == 0, said
    assert away.desk.box(f"{JOB}.1").ending is not None


def _parts(away):
    away.launcher.address = away.address
    return away
