"""The first page and every command start without torch; measured in fresh interpreters."""

import json
import subprocess
import sys

import pytest

from studio.core.settings import PROJECT_ROOT

HEAVY = (
    "torch", "diffusers", "transformers", "peft", "gradio", "cv2", "dlib", "huggingface_hub", "sqlalchemy", "alembic",
)  # fmt: skip
GROUND = ["errors", "domain", "catalog", "config", "settings", "presets", "adapters", "machine"]

PROBE = """
import importlib, json, sys, threading, time
before_s = time.process_time()
for name in sys.argv[1:]:
    importlib.import_module(name)
cpu_s = time.process_time() - before_s
print(json.dumps({"modules": sorted(sys.modules), "cpu_s": cpu_s, "threads": threading.active_count()}))
"""


def probe(*modules):
    command = [sys.executable, "-c", PROBE, *modules]
    answer = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def heavy_ones(answer):
    return {name.split(".")[0] for name in answer["modules"]} & set(HEAVY)


FORGETS = ["studio.pictures.picture_cache", "studio.bases.pulled"]
"""What the server's own process calls of other rooms when it forgets."""


@pytest.mark.parametrize("module", ["studio.service", "studio.cli.main", "studio.jobs.child", *FORGETS])
def test_door_and_command_line_bring_in_nothing_heavy(module):
    answer = probe(module)
    assert heavy_ones(answer) == set()
    assert answer["cpu_s"] < 2.0, "about 0.3 s on an idle machine"


def test_ground_is_light_and_fast():
    answer = probe(*(f"studio.core.{name}" for name in GROUND))
    assert heavy_ones(answer) == set()
    assert answer["threads"] == 1
    assert answer["cpu_s"] < 1.0, "about 0.2 s on an idle machine"


@pytest.mark.whole
def test_probe_sees_what_is_heavy():
    assert heavy_ones(probe("studio.web.page.theme")) >= {"gradio"}
