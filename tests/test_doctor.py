"""The doctor: real probes, in a child, and no probe takes the report down with it."""

import importlib
import textwrap
from importlib.metadata import version
from pathlib import Path

import pytest

from studio import doctor
from studio.cli import main
from studio.core.settings import Settings
from studio.doctor import PROBES, Finding, examine


def _found(name: str, settings: Settings) -> list[Finding]:
    return list(PROBES[name](settings))


def test_probes_run_in_a_child_and_report_in_order() -> None:
    findings = examine(["python", "packages", "photo_formats", "memory"])
    assert [finding.name for finding in findings] == [
        "python",
        "packages",
        "HEIC photos",
        "AVIF photos",
        "WebP photos",
        "memory",
    ]
    assert {finding.status for finding in findings[:-1]} == {"ok"}


@pytest.fixture
def patched_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace two probes, inside the child, by one that dies and one that hangs."""
    patch = textwrap.dedent(
        """
        import os, sys, time
        sys.path.insert(0, sys.argv.pop(1))
        from studio import doctor
        doctor.PROBES["memory"] = lambda settings: os.abort()
        doctor.PROBES["port"] = lambda settings: time.sleep(60)
        doctor.PROBES["disk"] = lambda settings: iter([][0])
        print("doctor is not what this line is for")
        doctor.main(sys.argv[1:])
        """
    )
    monkeypatch.setattr(doctor, "_CHILD", patch)


@pytest.mark.usefixtures("patched_child")
def test_a_probe_that_takes_its_process_down_is_a_finding_and_the_others_still_run() -> None:
    findings = examine(["python", "memory", "packages"])
    assert [(finding.name, finding.status) for finding in findings] == [
        ("python", "ok"),
        ("memory", "fail"),
        ("packages", "ok"),
    ]
    assert "ended its process" in findings[1].message and findings[1].cure


@pytest.mark.usefixtures("patched_child")
def test_a_probe_that_hangs_is_given_up() -> None:
    (finding,) = examine(["port"], timeout_s=3.0)
    assert finding.status == "fail" and "did not answer within 3 s" in finding.message


@pytest.mark.usefixtures("patched_child")
def test_a_probe_that_raises_is_a_finding() -> None:
    (finding,) = examine(["disk"])
    assert finding.status == "fail" and "list index out of range" in finding.message


def test_a_home_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = _found("disk", Settings(home=tmp_path / "file" / "home"))
    assert finding.status == "fail" and "STUDIO_HOME" in finding.cure


def test_a_folder_without_presets_is_a_failure(tmp_path: Path) -> None:
    (finding,) = _found("presets", Settings(presets_dir=tmp_path))
    assert finding.status == "fail" and "STUDIO_PRESETS_DIR" in finding.cure


def test_a_damaged_base_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "POCKET_FOLDER", tmp_path)
    (missing,) = _found("base", Settings())
    assert missing.status == "fail" and "missing" in missing.message
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights.safetensors").write_bytes(b"\x08\x00")
    (damaged,) = _found("base", Settings())
    assert damaged.status == "fail" and "unet/weights.safetensors is damaged" in damaged.message


def test_missing_and_outdated_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements.txt").write_text("# a comment\nno-such-package-at-all>=1\ntyper>=99\nrich>=1\n")
    monkeypatch.setattr(doctor, "SHIPPED_ROOT", tmp_path)
    (finding,) = _found("packages", Settings())
    assert finding.status == "fail"
    assert "no-such-package-at-all is missing" in finding.message and "typer" in finding.message
    assert "rich" not in finding.message


def test_the_packages_here_fit_each_other() -> None:
    (finding,) = _found("pairs", Settings())
    assert finding.status == "ok", finding.message


@pytest.mark.parametrize(
    ("module", "constant", "library", "name"),
    [
        ("transformers.integrations.peft", "MIN_PEFT_VERSION", "transformers", "peft"),
        ("transformers.utils.import_utils", "ACCELERATE_MIN_VERSION", "transformers", "accelerate"),
        ("diffusers.utils.constants", "MIN_PEFT_VERSION", "diffusers", "peft"),
        ("diffusers.utils.constants", "MIN_TRANSFORMERS_VERSION", "diffusers", "transformers"),
    ],
)
def test_what_a_library_asks_of_another_only_at_run_time_is_checked_by_its_own_constant(
    module: str, constant: str, library: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module(module), constant, "99.1")
    (finding,) = _found("pairs", Settings())
    assert finding.status == "fail" and "constraints.txt" in finding.cure
    assert f"{library} {version(library)} wants {name}>=99.1, and {version(name)} is here" in finding.message


def test_a_table_of_a_library_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.dependency_versions_table import deps

    monkeypatch.setitem(deps, "safetensors", "safetensors>=99")
    (finding,) = _found("pairs", Settings())
    assert finding.status == "fail" and "wants safetensors>=99" in finding.message


def test_a_port_in_use_is_said_with_the_way_out() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        (finding,) = _found("port", Settings(port=taken.getsockname()[1]))
    assert finding.status == "warn" and "STUDIO_PORT" in finding.cure


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_only_a_failure_makes_the_command_fail(
    status: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = Finding("disk", status, "is full", "free some space")  # type: ignore[arg-type]
    monkeypatch.setattr(doctor, "examine", lambda: [finding])
    assert main.run(["doctor"]) == code
    shown = capsys.readouterr().out
    assert "is full" in shown and "free some space" in shown
    assert main.run(["doctor", "--json"]) == code
    assert f'"status": "{status}"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        ({}, "ok", "only programs of this machine reach it, and only with its token"),
        ({"token": "off"}, "warn", "none needs a token"),
        ({"host": "0.0.0.0"}, "ok", "every machine of its network reaches it, under its IP address and only with"),
        ({"host": "0.0.0.0", "trusted_hosts": "gpu.example"}, "ok", "under its IP address or gpu.example"),
        ({"host": "0.0.0.0", "trusted_hosts": "*"}, "warn", "under any name"),
        ({"host": "0.0.0.0", "token": "off"}, "fail", "does not start"),
        ({"host": "0.0.0.0", "login": True}, "ok", "everybody logs in"),
    ],
)
def test_the_doctor_says_who_reaches_the_server(settings: dict[str, object], status: str, words: str) -> None:
    (finding,) = _found("reach", Settings(**settings))
    assert finding.status == status and words in finding.message
