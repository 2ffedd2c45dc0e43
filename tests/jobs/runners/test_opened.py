import json

import pytest

from studio.core.settings import Settings
from studio.jobs.runners.opened import goes_away, launcher_of
from studio.service import Studio


@pytest.mark.parametrize(
    ("kind", "config", "away"),
    [
        ("train", {"base": "pocket"}, True),
        ("train", {"base": "/srv/base"}, False),
        ("generate", {}, True),
        ("check", {}, False),
        ("publish", {}, False),
    ],
)
def test_what_needs_a_gpu_goes_away_unless_it_names_paths_of_this_machine(tmp_path, kind, config, away):
    (tmp_path / "request.json").write_text(json.dumps({"kind": kind, "config": config, "source": None}))
    assert goes_away(kind, tmp_path) is away


@pytest.mark.parametrize(
    ("host", "server"), [("127.0.0.1", "127.0.0.1:7860"), ("0.0.0.0", "127.0.0.1:7860"), ("::1", "[::1]:7860")]
)
def test_agents_are_led_to_where_this_server_listens(tmp_path, host, server):
    launcher = launcher_of(Settings(home=tmp_path, host=host, runner="ssh:ada@gpu"))
    assert (launcher.name, launcher._server) == ("ssh:ada@gpu", server)


def test_agents_in_a_cluster_are_led_to_the_public_address_or_else_to_where_this_server_listens(tmp_path):
    assert launcher_of(Settings(home=tmp_path, runner="ray")).address == "http://127.0.0.1:7860"
    there = Settings(home=tmp_path, runner="ray", public_url="https://studio.example.org/x/")
    assert launcher_of(there).address == "https://studio.example.org/x"


@pytest.mark.parametrize("url", ["studio.example.org", "ftp://a", "https://a/?x", "https://u:p@a", "https://a/b//"])
def test_addresses_that_agents_could_not_call_are_refused(tmp_path, url):
    with pytest.raises(ValueError, match="public_url"):
        Settings(home=tmp_path, public_url=url)


@pytest.mark.parametrize("runner", ["ray:", "ssh:", "ssh:-oProxyCommand=x", "ssh:a b", "ssh:$(x)", "cloud"])
def test_names_that_are_no_runner_are_refused(tmp_path, runner):
    with pytest.raises(ValueError, match="runner"):
        Settings(home=tmp_path, runner=runner)


def test_only_who_asks_for_another_machine_has_a_desk_and_a_key(tmp_path):
    studio = Studio(Settings(home=tmp_path / "a", device="cpu"))
    assert studio.desk is None
    assert not (tmp_path / "a").exists()
    studio.close()
    studio = Studio(Settings(home=tmp_path / "b", device="cpu", runner="ssh:gpu"))
    assert studio.desk is not None
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["machines.key"]
    studio.close()
