"""The page of the Space ``zerogpu``: pictures with published adapters, on a GPU that is lent for seconds.

ZeroGPU lends a GPU to one call of a function, in a process of its own: what goes in and comes out is pickled, bases are
on the GPU already if they were loaded at start, and each second counts against the visitor's quota. So everything
that can fail or take long without a GPU is done before: pulling the adapter, reading it, planning the pictures. The
pictures are made by ``studio.infer.generate`` itself. Called by ``spaces/zerogpu/app.py``.
"""

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import SecretStr

from studio.bases.local import LocalBase
from studio.bases.resolve import resolve_adapter
from studio.core.adapters import read_info
from studio.core.config import GenerateConfig
from studio.core.domain import Event, GenerateResult
from studio.core.errors import InputError, NotFoundError, Problem, ResourceError, StudioError
from studio.core.presets import list_packs
from studio.core.settings import Settings
from studio.infer import generate
from studio.pictures.render import PictureRequest
from studio.pictures.request import planned
from studio.pictures.swapper import AdapterSwappers
from studio.web.full_disk import FullDisk
from studio.web.guard import GuardMiddleware, UploadedFilesMiddleware, upload_folder
from studio.web.page import parts, parts_pictures
from studio.web.page.context import QUIET
from studio.web.server import keep_secrets_out_of_logs, page_options

LONGEST_S = 120
"""Most GPU seconds that one request may ask for: as much as a visitor without an account has on a day."""
KEPT_S = 3600.0
"""Pictures are deleted after so long."""

_START_S = 10.0
_STEP_S = 0.02
_MEGAPIXEL_S = {
    "sd": 0.15, "sdxl": 0.2, "sd3": 0.4, "flux": 0.8, "flux2": 0.5, "zimage": 0.5, "qwen_image": 1.2,
}  # fmt: skip
"""Seconds of one forward pass per megapixel, by family. Set generously, not measured on that hardware: a call that runs
longer than it asked for may be ended, one that ends sooner is only charged for what it took."""

Draw = Callable[[GenerateConfig, Path, Path], GenerateResult | StudioError]
Lend = Callable[..., Draw]
"""``spaces.GPU``: (function, duration=function of the same arguments) -> the function, run with a GPU."""


def seconds_for(picture_requests: Sequence[PictureRequest], family: str) -> int:
    """Return how many seconds of a GPU to ask for.

    Args:
        picture_requests: the pictures to make.
        family: of their base.
    """
    total_s = _START_S
    for picture_request in picture_requests:
        passes = 2 if picture_request.guidance_scale > 1 else 1
        megapixels = picture_request.size_hw[0] * picture_request.size_hw[1] / 1e6
        total_s += picture_request.num_inference_steps * passes * (_STEP_S + _MEGAPIXEL_S.get(family, 1.0) * megapixels)
    return ceil(total_s)


def load_bases(names: Sequence[str]) -> tuple[AdapterSwappers, tuple[str, ...]]:
    """Load bases to stay, leaving out those that cannot be had.

    Returns:
        What is loaded, and a sentence about each that is not.

    Raises:
        StudioError: none could be loaded; the first one's reason.
    """
    residents = AdapterSwappers()
    reasons: list[StudioError] = []
    for name in names:
        try:
            residents.load(name)
        except StudioError as error:
            reasons.append(error)
    if not residents.names:
        raise reasons[0] if reasons else InputError("STUDIO_RESIDENT_BASES names no base.")
    return residents, tuple(str(error) for error in reasons)


@dataclass(frozen=True)
class GpuResult:
    """What one request gave."""

    pictures: tuple[tuple[Path, str], ...]
    """Each with its caption."""
    archive: Path | None
    """A zip of all; None where the time ran out before all were made."""
    remark: str = ""


class GpuGenerator:
    """Makes pictures with published adapters on bases that stay loaded.

    Args:
        settings: where things are kept.
        residents: the bases.
        lend: ``spaces.GPU``; None computes in this process, on what is here.
    """

    def __init__(self, settings: Settings, residents: AdapterSwappers, lend: Lend | None = None) -> None:
        self._settings = settings
        self._residents = residents
        self._pictures = upload_folder(settings)  # the only folder that Gradio serves; names in it cannot be guessed
        self._draw: Draw = lend(self._here, duration=self._duration) if lend else self._here

    @property
    def bases(self) -> tuple[str, ...]:
        """Names of the bases."""
        return self._residents.names

    def paint(self, config: GenerateConfig, token: str | None = None) -> GpuResult:
        """Pull the adapter that ``config`` names and make its pictures.

        Args:
            config: with an ``adapter``.
            token: of the visitor, for private adapters; it is kept nowhere, and neither is what it opened.

        Raises:
            StudioError: as ``studio.infer.generate``; InputError: another base, or more pictures than one request may
                have. gr.Error: no GPU was lent, or it was taken away before a picture was there.
        """
        assert config.adapter is not None
        _sweep(self._pictures, KEPT_S)
        with tempfile.TemporaryDirectory(prefix="likeness-adapter-") as scratch:
            found = self._pull(config.adapter, token, Path(scratch))
            info = read_info(found.folder / "adapter")
            self._residents.require(info)
            config = config.model_copy(update={"adapter": None})
            seconds = seconds_for(planned(config, found.folder), info.family)
            if seconds > LONGEST_S:
                message = f"these pictures would take about {seconds} s of a GPU; a request may have {LONGEST_S} s"
                raise InputError.of([Problem("pictures", message, "ask for fewer or smaller ones", "too_many")])
            out = self._pictures / secrets.token_hex(16)
            out.mkdir(mode=0o700, parents=True)
            try:
                answer = self._draw(config, found.folder, out)
            except gr.Error as error:  # the platform's own: no quota, no GPU, or the time is over
                made = sorted(out.glob("*/[0-9]*.png"))
                if not made:
                    raise
                remark = f"The GPU was taken away before all pictures were made ({error.message})."
                return GpuResult(tuple((path, path.parent.name) for path in made), None, remark)
        if isinstance(answer, StudioError):
            raise answer
        measured = answer.likeness_engine is not None
        pictures = tuple(
            (out / image.file, parts_pictures.picture_caption(asdict(image), measured=measured))
            for image in answer.images
        )
        return GpuResult(pictures, out / answer.archive)

    def _here(self, config: GenerateConfig, run_dir: Path, out_dir: Path) -> GenerateResult | StudioError:
        """Make the pictures; where ZeroGPU is, this is what runs in the process that has the GPU."""
        try:
            return generate(config, run_dir, out_dir, on_event=_show_progress, opener=self._residents.open)
        except StudioError as error:  # returned: of what is raised, only the class would come through
            return error

    def _duration(self, config: GenerateConfig, run_dir: Path, out_dir: Path) -> int:
        return seconds_for(planned(config, run_dir), read_info(run_dir / "adapter").family)

    def _pull(self, name: str, token: str | None, scratch: Path) -> LocalBase:
        """Find an adapter: a public one in the shared cache, a private one for this request alone.

        In the shared cache it would open for others, who know its commit.
        """
        public = self._settings.model_copy(update={"hub_token": SecretStr("")})  # never the Space's own token
        try:
            return resolve_adapter(name, public)
        except (NotFoundError, InputError):
            if not token:
                raise
        return resolve_adapter(name, public.model_copy(update={"hub_token": SecretStr(token), "bases_dir": scratch}))


def _show_progress(event: Event) -> None:
    if event.kind == "progress":
        gr.Progress()((event.data["step"], event.data["total"]), desc=event.data["message"], unit="pictures")


def _sweep(folder: Path, older_than_s: float) -> None:
    oldest_s = time.time() - older_than_s
    for child in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):
            if child.stat().st_mtime < oldest_s:
                shutil.rmtree(child)


# ------------------------------------------------------------------------------------------------------------ the page


def build(
    gpu_generator: GpuGenerator, settings: Settings, *, login: bool, at_once: int | None, remarks: Sequence[str]
) -> gr.Blocks:
    """Return the page, not yet launched.

    Args:
        gpu_generator: makes the pictures.
        settings: where the packs are.
        login: offer a login, for private adapters; only where the platform does, elsewhere Gradio makes one up.
        at_once: requests that run side by side; None has no limit, since on ZeroGPU each has a process of its own.
        remarks: what a visitor should know, such as bases that are missing.
    """
    packs = [
        row for row in list_packs(settings.presets_dir) if not row.bases or set(row.bases) & set(gpu_generator.bases)
    ]
    with gr.Blocks(title="Likeness Studio", analytics_enabled=False, delete_cache=(600, int(KEPT_S))) as page:
        gr.HTML(parts.header())
        if login:
            gr.LoginButton()
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=300):
                adapter = gr.Textbox(
                    label="Adapter",
                    info="A repository that the studio published; its base is one of: "
                    f"{', '.join(gpu_generator.bases)}.",
                    placeholder="owner/name",
                    max_lines=1,
                )
                pack = gr.Dropdown(
                    [(_OWN_PROMPTS, ""), *((f"{row.title} ({len(row.shots)} shots)", row.name) for row in packs)],
                    value="",
                    label="What to picture",
                )
                prompts = gr.Textbox(
                    label="Prompts",
                    info="One per line; {subject} stands for the adapter's subject.",
                    value="a photo of {subject} at the beach",
                    lines=3,
                )
                count = gr.Slider(1, 8, value=2, step=1, label="Pictures of each")
                strength = gr.Slider(0, 2, value=1, step=0.05, label="Strength")
                seed = gr.Number(value=0, precision=0, label="Seed", info="The same seed gives the same pictures.")
                button = gr.Button("Generate", variant="primary")
            with gr.Column(scale=8, min_width=320):
                notice = gr.HTML(parts.notice("Worth knowing", remarks) if remarks else "")
                gallery = gr.Gallery(label="Pictures", columns=3, object_fit="contain", interactive=False)
                archive = gr.File(label="All of them (zip)", interactive=False, height=90)
        gr.HTML(parts.footer())

        def on_generate(
            adapter: str,
            pack: str,
            prompts: str,
            count: int,
            strength: float,
            seed: int,
            token: gr.OAuthToken | None = None,
        ) -> tuple[str, list[tuple[str, str]], str | None]:
            """Make pictures with a published adapter.

            Args:
                adapter: owner/name, or owner/name@revision, of a repository that the studio published.
                pack: name of a prompt pack; empty takes the prompts.
                prompts: one per line.
                count: pictures of each shot or prompt.
                strength: of the adapter; 1 is as trained.
                seed: of the first picture.
                token: set by Gradio for a visitor who is logged in.
            """
            try:
                lines = [line.strip() for line in prompts.splitlines() if line.strip()]
                wanted: dict[str, Any] = {"pack": pack} if pack else {"prompts": lines}
                asked = {"adapter": adapter.strip(), "count": count, "adapter_scale": strength, "seed": seed}
                # A published adapter comes without the photos' embedding, so there is nothing to compare with.
                config = GenerateConfig.parse({**wanted, **asked, "likeness": "none"})
                painted = gpu_generator.paint(config, token.token if token else None)
            except StudioError as caught:
                return parts.error(caught, _LABELS), [], None
            remark = parts.notice(painted.remark) if painted.remark else ""
            zipped = str(painted.archive) if painted.archive else None
            return remark, [(str(path), caption) for path, caption in painted.pictures], zipped

        pack.input(lambda chosen: gr.Textbox(visible=not chosen), pack, prompts, **QUIET)
        button.click(
            on_generate,
            [adapter, pack, prompts, count, strength, seed],
            [notice, gallery, archive],
            api_name="generate",
            concurrency_limit=at_once,
        )
    page.queue(max_size=64)
    return page


_OWN_PROMPTS = "My own prompts"
_LABELS = {"adapter": "Adapter", "prompts": "Prompts", "count": "Pictures of each", "adapter_scale": "Strength"}


def serve(
    settings: Settings, *, lend: Lend | None, login: bool, side_by_side: bool, on_ready: Callable[[str], None]
) -> None:
    """Load the bases, serve the page until the process is told to stop.

    Args:
        settings: where to keep things, where to listen, which bases to hold.
        lend: ``spaces.GPU``; None where it is not.
        login: offer a login.
        side_by_side: run requests next to each other; only where each gets a process of its own.
        on_ready: told the address.

    Raises:
        StudioError: no base could be loaded, or the port is taken.
    """
    from starlette.middleware import Middleware

    names = [name.strip() for name in settings.resident_bases.split(",") if name.strip()]
    residents, remarks = load_bases(names)
    page = build(
        GpuGenerator(settings, residents, lend),
        settings,
        login=login,
        at_once=None if side_by_side else 1,
        remarks=remarks,
    )
    try:
        # launch, not an app of our own: the platform's package moves the weights away when it is called.
        _, address, _ = page.launch(
            server_name=settings.host,
            server_port=settings.port or None,
            quiet=True,
            prevent_thread_lock=True,
            **page_options(settings),
            app_kwargs={
                "middleware": [
                    Middleware(GuardMiddleware, settings=settings),
                    Middleware(FullDisk),
                    Middleware(UploadedFilesMiddleware, settings=settings),
                ],
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
        )
    except OSError as error:
        raise ResourceError(f"cannot listen on port {settings.port}; set STUDIO_PORT to a free one.") from error
    on_ready(address)
    keep_secrets_out_of_logs(settings)
    page.block_thread()
