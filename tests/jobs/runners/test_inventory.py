"""What the commands ``runners`` say; on stand-ins of the services."""

import socket
from pathlib import Path

import pytest

from studio.core.errors import InputError, ResourceError
from studio.core.settings import Settings
from studio.jobs.queue import NewJob
from studio.jobs.runners import inventory
from studio.jobs.runners.ray import RayLauncher
from studio.jobs.runners.rented.base import Label, Start, Wants
from studio.jobs.runners.rented.opened import SERVICES, installation_of
from studio.jobs.states import VERBS
from studio.jobs.storage.links import key_of
from studio.jobs.store import open_store

START = Start("python:3.12-slim", ("true",), {}, 80, 3600.0)


@pytest.fixture
def settings(tmp_path, request, new_rented, stand_ins):
    """Of an installation that rents from a stand-in whose machines do nothing."""
    service = new_rented("vast").service
    service.starts = False
    home = tmp_path / "home"
    home.mkdir()
    given = {"public_url": "https://studio.example.org", "rent_monthly_budget": 20.0}
    made = Settings(home=home, runner="vast", device="cpu", rent_key=stand_ins.KEY, rent_url=service.url, **given)
    yield made, service
    for machine_id in list(service.machines):
        service.end(machine_id)


def rent(made, job, *, known=True):
    """Rent a machine for the first attempt of a job of this installation, which does not run."""
    adapter = SERVICES["vast"](made.rent_key.get_secret_value(), name := installation_of(key_of(made.home)),
                               url=made.rent_url)  # fmt: skip
    label = Label(name, job, 1)
    machine_id = adapter.create(adapter.offers(Wants("", 24.0, 80, 0.8))[0], label, START)
    if known:
        store = open_store(made, made.home, VERBS)
        row = {"label": str(label), "service": "vast", "job": job, "attempt": 1, "what": "a GPU",
               "price_per_hour": 0.4, "extra": 0.0}  # fmt: skip
        store.rentals.reserve(row, lambda money: 2.0)
        store.rentals.rented(str(label), machine_id)
        store.close()
    return machine_id


def test_this_machine_is_there_and_costs_nothing(tmp_path: Path):
    found = inventory.look(Settings(home=tmp_path / "none", device="cpu"))
    (local,) = found.runners
    assert (local.name, local.chosen, local.alive, local.slots, local.device) == ("local", True, True, 1, "cpu")
    assert found.rented == () and found.money is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("error", [None, ResourceError("the Ray cluster does not answer.")])
def test_a_cluster_is_asked_and_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ResourceError | None):
    left: list[str] = []

    def ask(self: RayLauncher, do: str, patience_s: float, **arguments: str) -> dict[str, str]:
        if error is not None:
            raise error
        return {"state": "gone"}

    monkeypatch.setattr(RayLauncher, "_ask", ask)
    monkeypatch.setattr(RayLauncher, "hang_up", lambda self: left.append(self.name))
    _, ray = inventory.look(Settings(home=tmp_path, device="cpu", runner="ray", runner_jobs=3)).runners
    assert (ray.name, ray.chosen, ray.alive, ray.slots) == ("ray", True, error is None, 3) and left == ["ray"]
    assert ray.cause == ("" if error is None else str(error))


def test_a_machine_of_ones_own_that_is_not_reached_says_why(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    _, there = inventory.look(Settings(home=tmp_path, runner=f"ssh:nobody@127.0.0.1:{closed}", device="cpu")).runners
    assert there.alive is False and there.cause


def test_what_is_rented_what_it_costs_and_what_is_spent(settings):
    made, service = settings
    machine_id = rent(made, "train-0123456789abcdef")
    unknown = rent(made, "train-fedcba9876543210", known=False)
    found = inventory.look(made)
    _, vast = found.runners
    assert (vast.name, vast.chosen, vast.alive, vast.price) == ("vast", True, True, "$0.40 an hour (RTX 4090, 24 GB)")
    assert [(row.machine, row.state, row.since_s is None) for row in found.rented] == [
        (machine_id, "running", False), (unknown, "running", True),
    ]  # fmt: skip
    assert found.money["spent"] == 0 and found.money["reserved"] == 2.0 and found.money["budget"] == 20.0
    service.fail("list", "empty")
    found = inventory.look(made)
    assert found.runners[1].alive is False and "no clear answer" in found.runners[1].cause
    assert [(row.machine, row.state) for row in found.rented] == [(machine_id, "unknown")]


def test_a_sweep_by_hand_gives_back_what_belongs_to_no_job_that_runs(settings):
    made, service = settings
    orphan = rent(made, "train-0123456789abcdef")
    store = open_store(made, made.home, VERBS)
    store.insert(NewJob("train-fedcba9876543210", "train", "ada", "t", "fp"))
    assert store.claim().attempt == 1
    kept = rent(made, "train-fedcba9876543210")
    assert inventory.sweep_now(made) == {"kept": [kept], "given_back": [orphan], "left": {}}
    assert list(service.machines) == [kept]
    assert store.rentals.money().reserved == 2.0
    store.close()


def test_where_nothing_is_rented_there_is_nothing_to_sweep(tmp_path: Path):
    with pytest.raises(InputError, match="STUDIO_RUNNER: rents no machines; set it to vast or hf_jobs"):
        inventory.sweep_now(Settings(home=tmp_path))
