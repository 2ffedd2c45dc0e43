"""A running studio from Python: typed settings go in, typed results come back, files are downloaded and verified.

::

    with Client("http://127.0.0.1:7860") as studio:
        check = studio.check(Path("photos"), CheckConfig(subject="Ada", class_noun="woman"))
        run = studio.train(check)
        pictures = studio.generate(run, GenerateConfig(pack="business", count=4, keep=2))
        for image in pictures.wait(on_event=print).images:
            print(image.file, image.likeness)
        pictures.download(Path("pictures"))

An edge like the command line: no torch and no Gradio. Jobs may be queued behind one another at once; a call that was
cut off is repeated with the same key, and is the same job. Everything is on top of the public endpoints and routes of
docs/API.md. Unlike ``python -m studio remote train`` it does not look at photos here: they travel as they are.
"""

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from studio.core import records
from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import (
    Dataset,
    ExportResult,
    FinishResult,
    GenerateResult,
    OnEvent,
    PublishResult,
    TrainResult,
    ignore_event,
)
from studio.core.errors import InputError, Problem, StudioError
from studio.core.files import sha256_of
from studio.core.server_token import known_token
from studio.core.settings import load_settings
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig
from studio.imaging.decode import list_photos
from studio.remote import run as remote
from studio.remote.client import Server, quoted

CONTACT_S = 8.0
"""A server that has never answered is given up after so many seconds."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Job(Generic[_Result]):
    """A job of the studio; it goes on there whether anybody watches it or not."""

    id: str
    server: Server
    result_type: type[_Result]

    def view(self) -> dict[str, Any]:
        """Return how it stands: ``state``, ``progress``, ``cause`` and the other fields of docs/API.md."""
        return self.server.job(self.id)

    def wait(self, *, on_event: OnEvent = ignore_event, timeout_s: float | None = None) -> _Result:
        """Wait for the end and return the result.

        Args:
            on_event: told everything that the job tells; of kind ``progress`` are ``step``, ``total`` and ``eta_s``.
            timeout_s: longest wait; None waits for as long as it takes.

        Raises:
            StudioError: it stalled, with its cause and problems. ServerGoneError: nobody answers any more.
            JobCancelled: it was cancelled, or the time is up and it goes on without us.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        done = remote.watch(
            self.server,
            self.id,
            on_event=on_event,
            should_stop=lambda: end_s is not None and time.monotonic() >= end_s,
        )
        try:
            return records.from_dict(self.result_type, remote.result_of(done))
        except ValueError:
            raise StudioError(f"{self.server.url} answers like another version of the studio; update one.") from None

    def download(self, out: Path, *, on_event: OnEvent = ignore_event) -> list[Path]:
        """Bring the files of the completed job into a folder, each verified by its digest; one that was cut goes on.

        Raises:
            NotFoundError: it is not completed. ServerGoneError: nobody answers any more.
            ResourceError: a file arrives damaged, twice.
        """
        return remote.download(self.server, self.id, out, on_event=on_event)

    def cancel(self) -> None:
        """Ask it to end; what it has done so far is kept."""
        self.server.cancel(self.id)

    def retry(self) -> None:
        """Let it go on from where it stalled or was cancelled."""
        self.server.retry(self.id)


class Client:
    """A studio that runs somewhere.

    Args:
        url: its address, for example http://127.0.0.1:7860.
        token: the one that the server printed when it started, or a Hugging Face token where people log in. None takes
            STUDIO_REMOTE_TOKEN or, for a server of the same user on the same machine, the token in the home.
        insecure: send the token over plain http to another machine, too.
        patience_s: how long to look for a server that answered before; one that never did is given up after eight
            seconds.
        on_event: told when the server does not answer and when it is back.

    Raises:
        InputError: the address is none, or the token would cross the network in the open.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        insecure: bool = False,
        patience_s: float = 120.0,
        on_event: OnEvent = ignore_event,
    ) -> None:
        self.server = Server(
            url,
            token=token or known_token(load_settings(), url),
            insecure=insecure,
            patience_s=patience_s,
            contact_s=min(patience_s, CONTACT_S),
            on_event=on_event,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    def check(
        self,
        photos: Path | Iterable[Path],
        config: CheckConfig,
        *,
        edits: "Job[Dataset] | str" = "",
        key: str | None = None,
    ) -> Job[Dataset]:
        """Send photos and check them, or edit a set that was checked before.

        Args:
            photos: the files, or a folder of them; a caption ``NAME.txt`` beside a photo goes with it.
            config: what they show, and how to look at them.
            edits: a check or its id; its photos come before the new ones, of which there may be none then, and what
                ``config`` leaves out stays as it was there.
            key: the same key with the same request is the same job, also after a restart of this program.

        Raises:
            InputError: the studio refuses, in its own words. ServerGoneError: nobody answers.
        """
        files = list_photos(photos)[0] if isinstance(photos, Path) else list(photos)
        files += [caption for photo in files if (caption := photo.with_suffix(".txt")).is_file()]
        edited = {"edits": _id(edits)} if edits else {}
        return self._begin("check", Dataset, key, {**_given(config), "photos": self._sent(files), **edited})

    def train(
        self,
        check: Job[Dataset] | str,
        config: TrainConfig | None = None,
        *,
        preset: str = "",
        key: str | None = None,
    ) -> Job[TrainResult]:
        """Train on the photos of a check, finished or not.

        Args:
            check: the check or its id.
            config: what is set in it changes the preset's numbers; what is left out keeps them.
            preset: name of a preset; empty takes the base's own on that machine.
            key: as for ``check``.

        Raises: as ``check``.
        """
        given = _given(config) if config else {}
        return self._begin("train", TrainResult, key, {**given, "check": _id(check), "preset": preset})

    def generate(
        self, run: Job[TrainResult] | str, config: GenerateConfig, *, key: str | None = None
    ) -> Job[GenerateResult]:
        """Make pictures with a run, finished or not; an empty id goes with ``config.adapter``. Raises as ``check``."""
        which = {"run": _id(run)} if run else {}
        return self._begin("generate", GenerateResult, key, {**_given(config), **which})

    def export(
        self, run: Job[TrainResult] | str, config: ExportConfig | None = None, *, key: str | None = None
    ) -> Job[ExportResult]:
        """Write a run in another program's format. Raises as ``check``."""
        return self._begin("export", ExportResult, key, {**_given(config or ExportConfig()), "run": _id(run)})

    def finish(
        self,
        pictures: Job[GenerateResult] | Iterable[Path],
        chain: str,
        changes: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> Job[FinishResult]:
        """Put pictures through a chain.

        Args:
            pictures: a generate job, finished or not, or picture files and zips of them.
            chain: name of the chain.
            changes: its settings by step and name, for example ``{"fit.max_bytes": 5000000}``.
            key: as for ``check``.

        Raises: as ``check``.
        """
        what = {"job": pictures.id} if isinstance(pictures, Job) else {"pictures": self._sent(pictures)}
        return self._begin("finish", FinishResult, key, {"chain": chain, "settings": dict(changes or {}), **what})

    def publish(
        self,
        run: Job[TrainResult] | str,
        config: PublishConfig,
        *,
        pictures: Job[GenerateResult] | None = None,
        hub_token: str = "",
        key: str | None = None,
    ) -> Job[PublishResult]:
        """Publish a run on the Hugging Face Hub.

        Args:
            run: the run or its id.
            config: where and how; its ``pictures`` would be a folder of the server and stays empty.
            pictures: a generate job for the gallery.
            hub_token: of the Hub, with write access; kept there until the job has ended.
            key: as for ``check``.

        Raises: as ``check``.
        """
        more = {"run": _id(run)} | ({"pictures_job": pictures.id} if pictures else {})
        more |= {"token": hub_token} if hub_token else {}
        return self._begin("publish", PublishResult, key, {**_given(config), **more})

    def jobs(self, limit: int = 50) -> list[dict[str, Any]]:
        """Return the newest jobs, as ``Job.view`` does."""
        return self.server.jobs(limit)

    def forget(
        self, job: "Job[Any] | str" = "", *, subject: str = "", everything: bool = False, dry_run: bool = False
    ) -> dict[str, Any]:
        """Delete a job, a subject or everything of yours for good, with all that was made from it.

        Args:
            job: the job or its id; give exactly one of the three.
            subject: name of a subject.
            everything: all that is yours.
            dry_run: only say what would go.

        Returns:
            The receipt, with ``words`` for people.

        Raises: as ``check``.
        """
        job_id = _id(job) if job else ""
        return self.server.forget(job=job_id, subject=subject, everything=everything, dry_run=dry_run)

    def heart(self, pictures: "Job[GenerateResult] | str", *files: str, on: bool = True) -> tuple[str, ...]:
        """Give hearts to pictures, or take them back; they come first in the page, and in its zip alone.

        Args:
            pictures: the generate job or its id.
            files: the pictures, by the ``file`` of the result.
            on: whether they get one.

        Returns:
            The files that have one.

        Raises: as ``check``.
        """
        view = self.server.send("PUT", f"jobs/{quoted(_id(pictures))}/hearts", {"files": list(files), "on": on})
        return tuple(view["hearts"])

    def rename(self, name: str, *, subject: str = "", photo_set: "Job[Dataset] | str" = "") -> list[str]:
        """Give a subject another name, or a photo set one of its own.

        Args:
            name: the new name.
            subject: name of the subject so far; give one of the two.
            photo_set: a check or its id.

        Returns:
            The ids of the jobs that carry it.

        Raises: as ``check``.
        """
        if bool(subject) == bool(photo_set):
            raise InputError.of([Problem("rename", "needs a subject or a photo set", "give one of the two", "what")])
        if photo_set:
            return [self.server.send("PATCH", f"jobs/{quoted(_id(photo_set))}", {"name": name})["id"]]
        return list(self.server.send("PATCH", f"subjects/{quoted(subject)}", {"name": name})["renamed"])

    def choices(self, what: str) -> list[dict[str, Any]]:
        """Return what there is to choose from: ``bases``, ``presets``, ``packs`` or ``chains``."""
        return self.server.choices(what)

    def _sent(self, files: Iterable[Path]) -> list[dict[str, str]]:
        """Send files that are not there yet, and return them as a request names them."""
        digest_of = {path: sha256_of(path) for path in files}
        held = self.server.held()
        for path, sha256 in digest_of.items():
            if sha256 not in held:
                self.server.upload(sha256, path.read_bytes())
        return [{"sha256": sha256, "name": path.name} for path, sha256 in digest_of.items()]

    def _begin(self, verb: str, result: type[_Result], key: str | None, body: Mapping[str, Any]) -> Job[_Result]:
        view = self.server.begin(verb, body, key=key or _new_key())
        return Job(view["id"], self.server, result)


def _new_key() -> str:
    """Return a key without which a repeated call would be a second job."""
    return f"client-{secrets.token_hex(12)}"


def _id(job: Job[Any] | str) -> str:
    return job if isinstance(job, str) else job.id


def _given(config: StrictModel) -> dict[str, Any]:
    """Return what is set in a config, as the body of a request says it."""
    return config.model_dump(mode="json", exclude_unset=True)  # None, too: it takes away what a preset sets
