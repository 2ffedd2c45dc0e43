"""The section "How to add ..." of docs/ARCHITECTURE.md, followed to the letter in a copy of the project.

One of each is added by editing the files that the section names and no others; then the conformance suites and the
room that it belongs to run on it, in a process of their own.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("studio", "tests", "presets", "docs/API.md", "docs/ARCHITECTURE.md", "pyproject.toml")
MOST_PLACES = 3
TOKEN = "the-token-of-this-very-copy"

FAMILY_FILE = '''"""Stable Diffusion drawn with perturbed-attention guidance."""

from diffusers import DiffusionPipeline, StableDiffusionPAGPipeline

from studio.families.base import Parts
from studio.families.loading import assemble
from studio.families.sd import StableDiffusion


class StableDiffusionPag(StableDiffusion):
    """The verbs for the classes of Stable Diffusion under another pipeline."""

    def pipeline(self, parts: Parts) -> DiffusionPipeline:
        """See ``Family.pipeline``."""
        extra = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return assemble(StableDiffusionPAGPipeline, parts, self.spec, **extra)
'''

FAMILY_ROW = """    "sd_pag": FamilySpec(
        name="sd_pag",
        bucket_multiple_px=8,
        pipeline="StableDiffusionPAGPipeline",
        lora_targets=(("attention", _SD_ATTENTION), ("attention+conv", _SD_ATTENTION + _SD_CONV)),
        text_encoder_targets=_CLIP_TARGETS,
        prompt_tokens=(0,),
        negative_prompt=True,
        learning_text_encoders=1,
        learns_token=True,
    ),
"""

BASE_ROW = """        BaseSpec(
            name="pag15",
            title="Stable Diffusion 1.5 with perturbed attention",
            family="sd_pag",
            source="somebody/pag15",
            resolution_px=512,
            licence="creativeml-openrail-m",
            gated=False,
            vram_gb=6,
            guidance_scale=7.5,
            num_inference_steps=30,
            likeness="auto",
            description="The first base of the new family.",
        ),
"""

METHOD_FILE = '''"""A LoRA whose file says that this method wrote it."""

from pathlib import Path

from studio.bases.tensorfile import read_header, read_tensors, write_safetensors
from studio.core.adapters import WEIGHTS_NAME
from studio.core.catalog import FamilySpec
from studio.core.train_config import TrainConfig
from studio.families.base import Family, Parts
from studio.methods.lora import Lora


class LoraCopy(Lora):
    """LoRA under another name."""

    def attach(self, parts: Parts, spec: FamilySpec, config: TrainConfig) -> list[dict[str, object]]:
        """See ``Method.attach``."""
        as_lora = config.method.model_copy(update={"name": "lora"})
        return super().attach(parts, spec, config.model_copy(update={"method": as_lora}))

    def write(self, parts: Parts, family: Family, folder: Path) -> None:
        """See ``Method.write``."""
        super().write(parts, family, folder)
        path = folder / WEIGHTS_NAME
        said = {**read_header(path, "adapter").metadata, "written_by": "lora_copy"}
        write_safetensors(path, read_tensors(path, "adapter"), said)
'''

FIND_BY_HEADER = """    if (folder / FULL_NAME).is_file():
        return method("full")
    return method(read_header(folder / WEIGHTS_NAME, "adapter").metadata.get("written_by", "lora"))
"""

STEP_CLASS = '''class MirrorStep(StrictModel):
    """Exchange left and right."""

    do: Literal["mirror"] = "mirror"
    """Kind of step."""


'''

STEP_OPENER = """def _open_mirror(
    step: MirrorStep, config: FinishConfig, backdrop: Path | None, reporter: ProgressReporter
) -> Step:
    def mirror(canvas: Canvas, work: StepContext) -> Canvas:
        work.tick("mirroring")
        alpha = None if canvas.alpha is None else canvas.alpha[:, ::-1].copy()
        return Canvas(canvas.rgb[:, ::-1].copy(), alpha, canvas.original[:, ::-1].copy())

    return mirror


"""

ROUTE = """    @app.get("/hello")
    def hello(request: Request) -> dict[str, str]:
        return {"hello": session_of(request).owner}

"""

SETTING = '''    prompt_end: Text = Field(default="", max_length=100)
    """Words behind every prompt."""
'''

Edits = dict[str, str | list[tuple[str, str]]]
"""File -> its whole text where it is new; else (what stands there, what is put in its place)."""

ADDED: dict[str, Edits] = {
    "family": {
        "studio/families/sd_pag.py": FAMILY_FILE,
        "studio/families/registry.py": [
            (
                "from studio.families.sdxl",
                "from studio.families.sd_pag import StableDiffusionPag\nfrom studio.families.sdxl",
            ),
            ('    "sd": StableDiffusion,\n', '    "sd": StableDiffusion,\n    "sd_pag": StableDiffusionPag,\n'),
        ],
        "studio/core/catalog.py": [
            ('    "sdxl": FamilySpec(\n', FAMILY_ROW + '    "sdxl": FamilySpec(\n'),
            (
                '        BaseSpec(\n            name="sdxl",\n',
                BASE_ROW + '        BaseSpec(\n            name="sdxl",\n',
            ),
        ],
        "tests/reference/tiny_bases.py": [
            (
                '    "sdxl": _stable_diffusion_xl,\n',
                '    "sd_pag": lambda: StableDiffusionPAGPipeline(\n'
                "        **stable_diffusion().components, requires_safety_checker=False\n    ),\n"
                '    "sdxl": _stable_diffusion_xl,\n',
            ),
            ("    StableDiffusionPipeline,\n", "    StableDiffusionPAGPipeline,\n    StableDiffusionPipeline,\n"),
        ],
    },
    "method": {
        "studio/methods/lora_copy.py": METHOD_FILE,
        "studio/methods/registry.py": [
            ('{"lora": Lora,', '{"lora": Lora, "lora_copy": LoraCopy,'),
            (
                "from studio.core.adapters import FULL_NAME\n",
                "from studio.bases.tensorfile import read_header\n"
                "from studio.core.adapters import FULL_NAME, WEIGHTS_NAME\n",
            ),
            (
                "from studio.methods.lora import Lora\n",
                "from studio.methods.lora import Lora\nfrom studio.methods.lora_copy import LoraCopy\n",
            ),
            ('    return method("full" if (folder / FULL_NAME).is_file() else "lora")\n', FIND_BY_HEADER),
        ],
        "studio/core/train_config.py": [
            ('name: Literal["lora", ', 'name: Literal["lora", "lora_copy", '),
            ('    "lokr": frozenset(', '    "lora_copy": frozenset({"alpha"}),\n    "lokr": frozenset('),
            ('    "lokr": "load_', '    "lora_copy": "load_lora_weights of diffusers",\n    "lokr": "load_'),
        ],
        "tests/conformance/test_methods.py": [
            ('    "rslora": (', '    "lora_copy": ({"name": "lora_copy", "rank": 4}, {}),\n    "rslora": ('),
        ],
    },
    "step": {
        "studio/core/finish_config.py": [
            ("SIZES: dict[", STEP_CLASS + "SIZES: dict["),
            ("FaceStep | FitStep, ", "FaceStep | MirrorStep | FitStep, "),
            ('    "fit": FitStep,\n', '    "mirror": MirrorStep,\n    "fit": FitStep,\n'),
        ],
        "studio/finishing/steps.py": [
            ("FitStep, UpscaleStep\n", "FitStep, MirrorStep, UpscaleStep\n"),
            ("STEP_OPENERS: ", STEP_OPENER + "STEP_OPENERS: "),
            ('    "fit": _open_fit,\n', '    "mirror": _open_mirror,\n    "fit": _open_fit,\n'),
        ],
        "studio/web/page/words.py": [
            ('    "fit": "fit size and bytes",\n', '    "mirror": "left to right",\n    "fit": "fit size and bytes",\n')
        ],
    },
    "route": {"studio/web/routes.py": [('    @app.get("/uploads")\n', ROUTE + '    @app.get("/uploads")\n')]},
    "setting": {
        "studio/core/config.py": [
            (
                "    count: int = Field(default=1, ge=1, le=256)\n",
                SETTING + "    count: int = Field(default=1, ge=1, le=256)\n",
            )
        ],
        "studio/pictures/request.py": [
            ("                prompt=take.prompt,\n", "                prompt=take.prompt + config.prompt_end,\n")
        ],
    },
}

READERS = {"studio/pictures/request.py"}
"""Where the new setting is read; every setting is read somewhere else."""

USED = """
import json, sys
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from studio.core.adapters import AdapterInfo
from studio.core.catalog import FAMILIES
from studio.core.config import GenerateConfig
from studio.core.finish_config import FinishConfig
from studio.core.presets import Chain
from studio.core.settings import load_settings
from studio.pictures.request import plan_pictures
from studio.postprocess import finish
from studio.service import Studio
from studio.web import server
from studio.web.page import api_docs
from studio.web.page.parts_pictures import chain_hint

out, found = Path(sys.argv[1]), {"studio": str(Path(server.__file__).parents[2])}

pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
Image.fromarray(pixels).save(out / "one.png")
made = finish(FinishConfig.parse({"steps": [{"do": "mirror"}]}), out / "one.png", out / "finished")
mirrored = np.asarray(Image.open(out / "finished" / made.pictures[0].file))
found["step"] = bool((mirrored == pixels[:, ::-1]).all())
chain = {"name": "mirrored", "title": "Mirrored", "description": "A mirrored picture.", "steps": [{"do": "mirror"}]}
found["page"] = str(chain_hint(Chain.parse(chain)))

info = AdapterInfo("pocket", None, "sd", "Ada", "woman", "sks", 64, 5.0, 20, None, None, 1)
plan, _ = plan_pictures(GenerateConfig(prompts=("a dog",), prompt_end=", at night"), info, FAMILIES["sd"], None)
found["prompt"] = plan[0].picture_request.prompt
text = api_docs.updated(api_docs.API_DOCS.read_text("utf-8"))
found["docs"] = [row for row in text.splitlines() if "prompt_end" in row]

settings = load_settings()
app = server.create_app(Studio(settings), settings)
with TestClient(app, base_url="http://127.0.0.1:7860") as client:
    token = {"Authorization": "Bearer " + settings.token.get_secret_value()}
    closed, opened = client.get("/hello"), client.get("/hello", headers=token)
found["route"] = [closed.status_code, opened.status_code, opened.json()]
print(json.dumps(found))
"""
"""Run in the copy: uses step, setting and route as their callers do, and prints what came of it."""


def digests(folder: Path) -> dict[str, str]:
    """Return path below ``folder`` -> digest of every source file of the package there."""
    files = (path for path in (folder / "studio").rglob("*.py") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def section() -> dict[str, str]:
    """Return what can be added -> its paragraph in the section "How to add ..."."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## How to add ...")[2]
    paragraphs = re.split(r"\n\n+", text.partition("\n## ")[0].strip())
    titled = (re.match(r"\*\*(?:a|an) (?:finish )?([a-z]+)\b.*?\*\*", words) for words in paragraphs)
    return {title[1]: words for title, words in zip(titled, paragraphs, strict=True) if title}


def run(copy: Path, home: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the copy, on its own package, on one thread."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STUDIO_", "PYTEST_"))}
    ours = {"PYTHONPATH": str(copy), "STUDIO_HOME": str(home), "STUDIO_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=copy,
        env={**kept, **ours, **environment},
        capture_output=True,
        text=True,
        timeout=250,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project to which one of each was added."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copyfile(ROOT / name, folder / name)
    for edits in ADDED.values():
        for name, edit in edits.items():
            path = folder / name
            if isinstance(edit, str):
                assert not path.exists(), name
                path.write_text(edit, encoding="utf-8")
                continue
            text = path.read_text(encoding="utf-8")
            for before, after in edit:
                assert text.count(before) == 1, f"{name} holds this {text.count(before)} times: {before}"
                text = text.replace(before, after)
            path.write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("what", ADDED)
def test_the_section_names_every_place_and_at_most_three(what: str) -> None:
    said = set(re.findall(r"`(studio/[\w./]+)`", section()[what]))
    assert 1 <= len(said) <= MOST_PLACES
    assert all((ROOT / place).exists() for place in said)
    edited = ADDED[what].items()
    # Of a new file only its folder can be said; a setting is read by its verb, wherever that needs it.
    places = {name if isinstance(edit, list) else f"{Path(name).parent}/" for name, edit in edited} - READERS
    assert {name for name in places if name.startswith("studio/")} <= said


def test_nothing_else_of_the_studio_was_changed(copy: Path) -> None:
    before, after = digests(ROOT), digests(copy)
    assert set(before) <= set(after)
    changed = {name for name, digest in after.items() if before.get(name) != digest}
    assert changed == {name for edits in ADDED.values() for name in edits if name.startswith("studio/")}


@pytest.mark.whole
def test_the_conformance_suites_pass_on_the_new_family_and_the_new_method(copy: Path, tmp_path: Path) -> None:
    suites = [f"tests/conformance/test_{name}.py" for name in ("families", "methods")]
    chosen = "sd_pag or lora_copy or every_family or every_method"
    made = run(copy, tmp_path / "home", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", *suites, "-k", chosen)
    assert made.returncode == 0, made.stdout[-5000:] + made.stderr[-2000:]
    passed = re.findall(r"^PASSED \S+::(\w+)", made.stdout, re.MULTILINE)
    assert "test_it_trains_certifies_and_generates" in passed and "test_a_method_keeps_its_promises" in passed
    assert len(re.findall(r"^PASSED .*\[sd_pag\]", made.stdout, re.MULTILINE)) >= 12


@pytest.mark.whole
def test_the_new_step_setting_and_route_work_where_they_are_used(copy: Path, tmp_path: Path) -> None:
    made = run(copy, tmp_path / "home", "-c", USED, str(tmp_path), STUDIO_TOKEN=TOKEN)
    assert made.returncode == 0, made.stderr[-5000:]
    found = json.loads(made.stdout.splitlines()[-1])
    assert found["studio"] == str(copy)
    assert found["step"], "the picture was not mirrored"
    assert "left to right" in found["page"]
    assert found["prompt"] == "a dog, at night"
    assert found["route"] == [401, 200, {"hello": "local"}]
    (row,) = found["docs"]
    assert "Words behind every prompt." in row


def test_the_new_setting_is_listed_on_the_command_line(copy: Path, tmp_path: Path) -> None:
    made = run(copy, tmp_path / "home", "-m", "studio", "settings", "generate", "--json")
    assert made.returncode == 0, made.stderr
    rows = json.loads(made.stdout)["settings"]
    (found,) = [row for row in rows if row["name"] == "prompt_end"]
    assert found["about"] == "Words behind every prompt."
