"""A studio that plays a script: the service's contract without worker, torch or waiting, with drawn pictures.

The scripts tell the events that the verbs tell and write the files that they write (docs/ARCHITECTURE.md). With
``pace_s`` a script runs in a thread and rests between events; without, it is over when ``submit_...`` returns.
``hold`` keeps a kind of job at half way until it is cancelled or released.

Run as a script it serves the app: ``python tests/web/scripted_studio.py '{"settings": {...}}'``; it prints the address
and holds one finished check of another owner, ``check-foreign``. Without an argument it forks a server for each order
that it reads, so that a test need not wait for the imports; ``tests/web/conftest.py`` gives the orders.
"""

import itertools
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
import zipfile
from dataclasses import asdict, dataclass, field, replace

from PIL import Image as Pillow
from PIL import ImageOps

from studio.core.domain import (
    Dataset,
    Event,
    ExportResult,
    FinishedPicture,
    FinishResult,
    GenerateResult,
    Image,
    JobView,
    Photo,
    PublishResult,
    SourceJob,
    TrainResult,
    Verdict,
)
from studio.core.errors import ConflictError, InputError, NotFoundError, Problem
from studio.core.fit import MeasuredRun, plan_of
from studio.core.job_words import title_of
from studio.core.keys import Use
from studio.core.packs import fill
from studio.core.presets import load_pack
from studio.core.receipts import Receipt, Share
from studio.core.retention import most_days, require_within, retention
from studio.jobs.operation import Operation
from studio.jobs.queue import Deliveries
from studio.jobs.request import facts_of
from studio.pocket.renderer.people import sample_identity, sample_scene
from studio.pocket.renderer.portrait import render
from studio.pocket.renderer.words import HELD_OUT_SEED
from studio.pocket.samples import SAMPLE_CLASS_NOUN

_NUMBERS = itertools.count(1)
_ENDS = ("completed", "stalled", "cancelled")
TOKEN = "hf_write0123456789"
CARD = """---
license: apache-2.0
widget:
- text: photo of sks woman
  output:
    url: gallery/01.png
---

# Ada <script>alert(1)</script>
"""
SUBJECT = sample_identity(HELD_OUT_SEED + 14, SAMPLE_CLASS_NOUN)


@dataclass
class _Job:
    view: JobView
    config: object
    photos: list = field(default_factory=list)
    events: list = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    held: bool = False
    key: str | None = None


class _Stop(Exception):  # noqa: N818
    pass


class ScriptedServer:
    """Stands in for studio.jobs.server.Server: all is well."""

    def observe(self, observer):
        pass

    def problems(self):
        return []

    def figures(self):
        return []

    def deliveries(self):
        return {}

    def rented(self):
        return 0, 0.0, 0.0

    def free_bytes(self):
        return 10**9

    def running(self):
        return 0

    def leads(self):
        return True

    def is_draining(self):
        return False


class _Queue:
    """The table of jobs and the worker, as the operator asks them."""

    def __init__(self, jobs):
        self._jobs = jobs

    def newest_of_all(self, limit, *, states):
        return [job.view for job in reversed(self._jobs.values()) if job.view.state in states][:limit]

    def whose(self):
        return {job_id: job.view.owner for job_id, job in self._jobs.items()}

    def owner_of(self, job_id):
        if job_id not in self._jobs:
            raise NotFoundError(f"there is no job {job_id!r}.")
        return self._jobs[job_id].view.owner

    def tell(self, job_id, level, text):
        self._jobs[job_id].events.append(Event("message", {"level": level, "text": text}))

    def leads(self):
        return True

    def running(self):
        return {}

    def devices(self):
        return {"": ()}

    def warm(self):
        return {}

    rentals = None

    def end_pause(self, length_s):
        pass

    @property
    def overview(self):
        return _Overview()

    def wake(self):
        pass


class _Overview:
    """What the tables tell the operator: of these jobs, which are in none, nothing."""

    server = "here 1"

    def running(self):
        return ()

    def uses(self):
        return {}

    def deliveries(self):
        return Deliveries({}, 0, ())


class ScriptedStudio:
    """Stands in for studio.service.Studio."""

    def __init__(self, settings, *, pace_s=0.0, hold=()):
        self.settings, self.pace_s, self.hold = settings, pace_s, set(hold)
        self.jobs, self.forgotten, self.kept_days = {}, [], {}
        self.closed = False
        self.server = ScriptedServer()
        queue = _Queue(self.jobs)
        self.operation = Operation(settings, settings.home, queue, queue, self)
        self._lock = threading.Lock()
        self._store = None

    def start(self):
        pass

    @property
    def webhooks(self):
        """Real ones, which hear of nothing: these jobs are in no table."""
        from studio.jobs.states import VERBS
        from studio.jobs.store import open_store
        from studio.jobs.webhooks.addresses import Reach
        from studio.jobs.webhooks.desk import WebhookDesk

        if self._store is None:
            self.settings.home.mkdir(parents=True, exist_ok=True)
            self._store = open_store(self.settings, self.settings.home, VERBS)
        return WebhookDesk(self._store.webhooks, Reach(loopback=self.settings.webhook_loopback))

    def close(self):
        self.closed = True
        if self._store is not None:
            self._store.close()

    def check_settings(self, job_id, *, owner):
        self.get(job_id, owner=owner)
        return self.jobs[job_id].config

    def submit_check(self, config, photos, *, owner, key=None, edits=None):
        if len(photos) > config.max_photos:
            raise InputError.of(
                [Problem("photos", f"{len(photos)} are too many", f"keep the best {config.max_photos}", "too_many")]
            )
        kept = list(self.jobs[edits].photos) if edits else []
        for path in photos:
            copy = self.settings.home / "jobs" / "incoming" / f"{time.monotonic_ns()}-{path.name}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
            kept.append((path.name, copy))
        return self._submit("check", config, owner, key, photos=kept)

    def usage(self, *, owner):
        own = [job for job in self.jobs.values() if job.view.owner == owner]
        photos = sum(len(job.photos) for job in own if job.view.kind == "check")
        return Use("2026-11", photos, sum(job.view.state not in _ENDS for job in own), 0.0)

    def replay_of(self, key, told, *, owner):
        return None

    def note_link(self, job_id, told, *, owner):
        pass

    def knows(self, key, *, owner):
        return any(job.key == key and job.view.owner == owner for job in self.jobs.values())

    def submit_train(
        self, config, source, *, owner, key=None, token=None, preset=None, publish=None, publish_token=None
    ):
        if publish is not None:
            self._require_token(publish, publish_token)
        run = self._submit("train", config, owner, key, source, preset=preset)
        if publish is not None:
            self.submit_publish(publish, run.id, owner=owner, token=publish_token, key=f"publish-{run.id}")
        return run

    def publishing_of(self, run, *, owner):
        jobs = (job for job in self.list(owner=owner) if job.kind == "publish" and job.source == run)
        return next(jobs, None)

    def _require_token(self, config, token):
        if not config.dry_run and token != TOKEN:
            raise InputError.of([Problem("token", "may only read", "make one with write access", "read_only")])

    def plan(self, config, photos):
        measured = MeasuredRun("cpu", 1.0, step_s=0.5, picture_s=1.0, peak_bytes=2**30, adapter_bytes=8, resume_bytes=9)
        return plan_of(config, photos, measured, room_bytes=2**31)

    def submit_publish(self, config, source, *, owner, pictures=None, token=None, key=None):
        self._require_token(config, token)
        if pictures is not None:
            self.get(pictures, owner=owner)
        return self._submit("publish", config, owner, key, source)

    def unpublish(self, repo, *, owner=None, token=None):
        if token != TOKEN:
            raise InputError.of([Problem("token", "may only read", "make one with write access", "read_only")])

    def submit_generate(self, config, source=None, *, owner, key=None, token=None):
        return self._submit("generate", config, owner, key, source)

    def submit_export(self, config, source, *, owner, key=None, token=None):
        return self._submit("export", config, owner, key, source)

    def submit_finish(self, config, source=None, pictures=(), *, owner, key=None):
        kept = [(path.name, Pillow.open(path).convert("RGB")) for path in pictures]
        return self._submit("finish", config, owner, key, source, photos=kept)

    def _submit(self, kind, config, owner, key, source=None, photos=(), preset=None):
        if key is not None:
            for job in self.jobs.values():
                if job.key == key and job.view.owner == owner:
                    if job.config != config:
                        raise ConflictError(f"key {key!r} was used for another request.")
                    return job.view
        job_id = f"{kind}-{key or next(_NUMBERS)}"
        if job_id in self.jobs:  # of another owner, whose key is the same
            job_id = f"{kind}-{next(_NUMBERS)}"
        before = self.jobs[source].view if source else None
        if before and before.state in ("stalled", "cancelled"):
            raise ConflictError(f"job {source} is {before.state}; retry it first, then submit this again.")
        facts = facts_of(config, before.facts if before else None, preset=preset)
        title = title_of(kind, facts)
        view = JobView(job_id, kind, "pending", owner, title, created_s=time.time(), source=source, facts=facts)
        job = _Job(view, config, list(photos), held=kind in self.hold, key=key)
        self.jobs[job_id] = job
        self.out_dir(job_id, owner=owner).mkdir(parents=True)
        waits = before is not None and before.state not in _ENDS
        if self.pace_s or kind in self.hold or waits:
            threading.Thread(target=self._run, args=(job,), daemon=True).start()
        else:
            self._run(job)
        return self.jobs[job_id].view

    def get(self, job_id, *, owner):
        job = self.jobs.get(job_id)
        if job is None or job.view.owner != owner:
            raise NotFoundError(f"job {job_id!r} is not there.")
        return job.view

    def list(self, *, owner, limit=50, kind=None, states=(), source=None, before=None):
        views = [job.view for job in reversed(self.jobs.values()) if job.view.owner == owner]
        if before is not None:
            views = views[views.index(self.get(before, owner=owner)) + 1 :]
        wanted = [
            view for view in views
            if kind in (None, view.kind) and (not states or view.state in states) and source in (None, view.source)
        ]  # fmt: skip
        return wanted[:limit]

    def cancel(self, job_id, *, owner):
        if self.get(job_id, owner=owner).state not in ("completed", "stalled", "cancelled"):
            self.jobs[job_id].stop.set()
            self._set(self.jobs[job_id], state="cancelled", finished_s=time.time())
        return self.get(job_id, owner=owner)

    def retry(self, job_id, *, owner, token=None):
        self.get(job_id, owner=owner)
        job = self.jobs[job_id]
        job.stop.clear()
        job.held = False
        self._run(job)
        return job.view

    def forget(self, *, owner, job=None, subject=None, everything=False, dry_run=False):
        own = [row.view for row in self.jobs.values() if row.view.owner == owner]
        if job is not None:
            self.get(job, owner=owner)
        gone = {view.id for view in own if everything or view.id == job or (subject and view.facts.subject == subject)}
        if subject is not None and not gone:
            raise NotFoundError(f"there is nothing of {subject!r}.")
        while more := {view.id for view in own if view.source in gone} - gone:
            gone |= more
        files = [path for name in gone for path in self.out_dir(name, owner=owner).rglob("*") if path.is_file()]
        share = Share("folders", len(files), sum(path.stat().st_size for path in files))
        for name in () if dry_run else gone:
            self.jobs[name].stop.set()
            shutil.rmtree(self.out_dir(name, owner=owner).parent)
            del self.jobs[name]
        now_s, name = (None, "") if dry_run else (time.time(), f"{len(self.forgotten):016x}")
        jobs = tuple(sorted(gone))
        receipt = Receipt(name, jobs, (share,), share.files, share.bytes, time.time(), now_s, dry_run=dry_run)
        self.forgotten += [] if dry_run else [(owner, receipt)]
        return receipt

    def receipts(self, *, owner):
        return tuple(receipt for whose, receipt in reversed(self.forgotten) if whose == owner)

    def retention(self, *, owner):
        return retention(most_days(self.settings), self.kept_days.get(owner))

    def keep_for(self, days, *, owner):
        require_within(most_days(self.settings), days)
        self.kept_days[owner] = days
        return self.retention(owner=owner)

    def heart(self, job_id, files, *, owner, on=True):
        job = self.jobs[self.get(job_id, owner=owner).id]
        others = tuple(file for file in job.view.hearts if file not in files)
        self._set(job, hearts=(*others, *files) if on else others)
        return job.view

    def rename(self, subject, name, *, owner):
        if not name:
            raise InputError.of([Problem("name", "is empty", "give one", "empty")])
        own = [job for job in self.jobs.values() if (job.view.owner, job.view.facts.subject) == (owner, subject)]
        for job in own:
            self._call(job, replace(job.view.facts, subject=name))
            if job.view.kind == "check" and job.view.result:
                self._set(job, result={**job.view.result, "subject": name})
        return tuple(job.view.id for job in own)

    def name_set(self, job_id, name, *, owner):
        job = self.jobs[self.get(job_id, owner=owner).id]
        self._call(job, replace(job.view.facts, name=name or None))
        return job.view

    def _call(self, job, facts):
        self._set(job, facts=facts, title=title_of(job.view.kind, facts))

    def events(self, job_id, *, owner, after=0):
        self.get(job_id, owner=owner)
        return [(seq, event) for seq, event in enumerate(self.jobs[job_id].events, 1) if seq > after]

    def wait(self, job_id, *, owner, timeout_s=None):
        end = time.monotonic() + (timeout_s or 60)
        while self.get(job_id, owner=owner).state not in ("completed", "stalled", "cancelled"):
            if time.monotonic() > end:
                break
            time.sleep(0.02)
        return self.get(job_id, owner=owner)

    def out_dir(self, job_id, *, owner):
        return self.settings.home / "jobs" / self.get(job_id, owner=owner).id / "out"

    def bring_weights(self, job_id, file=None, *, owner):
        self.get(job_id, owner=owner)
        return 0

    def bases(self):
        return [{"name": "pocket", "title": "Pocket", "default": True, "default_preset": "pocket_lora_cpu"}]

    # The scripts

    def _set(self, job, **changes):
        with self._lock:
            job.view = replace(job.view, **changes)

    def _tell(self, job, kind, **data):
        if job.stop.is_set():
            raise _Stop
        job.events.append(Event(kind, data))
        if kind == "progress":
            self._set(job, progress=data)
        if self.pace_s:
            time.sleep(self.pace_s)

    def _half_way(self, job):
        while job.held and not job.release.is_set():
            if job.stop.wait(0.02):
                raise _Stop

    def _run(self, job):
        out = self.out_dir(job.view.id, owner=job.view.owner)
        try:
            self._await_source(job)
            if job.view.kind in ("export", "finish", "publish"):  # their scripts have no middle
                self._half_way(job)
            result = getattr(self, f"_{job.view.kind}")(job, out)
            self._set(job, state="completed", result=json.loads(json.dumps(asdict(result))), finished_s=time.time())
        except _Stop:
            pass
        except InputError as error:
            problems = [asdict(problem) for problem in error.problems]
            self._set(job, state="stalled", cause=str(error), problems=tuple(problems))

    def _await_source(self, job):
        source = self.jobs.get(job.view.source)
        while source is not None and source.view.state != "completed":
            if job.stop.is_set():
                raise _Stop
            if source.view.state in _ENDS:
                cause = f"{source.view.title} is {source.view.state}."
                self._set(job, state="stalled", cause=cause, waits_for=None)
                raise _Stop
            waits_for = SourceJob(source.view.id, source.view.kind, source.view.title)
            self._set(job, state="pendingImages", waits_for=waits_for)
            time.sleep(0.02)
        self._set(job, waits_for=None)

    def _check(self, job, out):
        self._set(job, state="checking")
        photos, verdicts = [], []
        (out / "photos").mkdir(exist_ok=True)
        (out / "previews").mkdir(exist_ok=True)
        for index, (name, path) in enumerate(job.photos):
            if index == len(job.photos) // 2:
                self._half_way(job)
            verdict = self._look(job.config, index, name, path, out, photos)
            verdicts.append(verdict)
            self._tell(job, "verdict", **asdict(verdict))
            self._tell(job, "progress", step=index + 1, total=len(job.photos), eta_s=None, message="")
        if not photos:
            raise InputError.of(
                [Problem(v.name, v.problems[0]["message"], v.problems[0]["cure"], "unreadable") for v in verdicts]
            )
        problems = ()
        if len(photos) < job.config.min_photos:
            text = f"only {len(photos)} usable photos"
            problems = ({"code": "too_few", "message": text, "cure": f"add at least {job.config.min_photos}"},)
        config = job.config
        about = {"likeness_engine": "pocket", "consent": config.consent}
        dataset = Dataset(config.subject, config.class_noun, tuple(photos), tuple(verdicts), problems, **about)
        (out / "dataset.json").write_text(json.dumps(asdict(dataset)))
        return dataset

    def _look(self, config, index, name, path, out, photos):
        try:
            with Pillow.open(path) as opened:
                picture = opened.convert("RGB")
        except OSError:
            problem = {"code": "unreadable", "message": "is not a picture", "cure": "export it again as JPEG"}
            return Verdict(name, "rejected", (problem,))
        preview, original = f"previews/{index:03d}.webp", f"originals/{index:03d}.jpg"
        (out / "originals").mkdir(exist_ok=True)
        picture.save(out / original)
        size = (picture.height, picture.width)
        left_out = Verdict(name, "rejected", (), size, None, preview, original)
        if name in config.exclude:
            problem = {"code": "excluded", "message": "was taken out by you", "cure": "put it back to use it"}
        elif "twin" in name and name not in config.force:
            problem = {"code": "near_duplicate", "message": "is nearly the same", "cure": "remove one", "risk": "bad"}
        else:
            problem = None
        if problem:
            picture.resize((256, 256)).save(out / preview)
            return replace(left_out, problems=(problem,))
        picture.resize((256, 256)).save(out / preview)
        picture.save(out / f"photos/{index:03d}.png")
        caption = config.captions.get(name, "photo of {instance_token}")
        photos.append(Photo(f"photos/{index:03d}.png", name, "0" * 64, size, caption, "1:1", (0, 0, *size)))
        crop = config.crops.get(name, (0.0, 0.0, 1.0, 1.0))
        likeness = round(0.97 - 0.03 * (index % 4), 2)
        if index % 5 == 3:
            problem = {"code": "blurred", "message": "is a little blurred", "cure": "use a sharper one if you have it"}
            return Verdict(name, "usable", (problem,), size, likeness, preview, original, crop)
        return Verdict(name, "good", (), size, likeness, preview, original, crop)

    def _train(self, job, out):
        self._set(job, state="pendingModel")
        self._tell(job, "stage", name="loading", message="Loading the base model")
        self._set(job, state="training")
        self._tell(job, "stage", name="training", message="Learning the subject")
        steps = job.config.steps if isinstance(job.config.steps, int) else 300
        stride = max(1, steps // 60)
        checkpoints = [0, *(round(steps * part / 5) for part in range(1, 6))]
        for step in range(0, steps + 1, stride):
            noise = 0.02 * math.sin(step * 12.9898) * math.cos(step * 78.233)
            loss = 0.12 + 0.2 * math.exp(-3 * step / steps) + noise
            if step:
                self._tell(job, "metrics", step=step, loss=loss, learning_rate=1e-3, step_s=0.4)
                self._tell(job, "progress", step=step, total=steps, eta_s=(steps - step) * 0.4, message="")
            while checkpoints and step >= checkpoints[0]:
                self._checkpoint(job, out, checkpoints.pop(0), steps)
            if step >= steps // 2:
                self._half_way(job)
        (out / "adapter").mkdir(exist_ok=True)
        (out / "adapter/pytorch_lora_weights.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
        facts = {"base": job.config.base, "class_noun": job.view.facts.class_noun}
        (out / "adapter/adapter.json").write_text(json.dumps(facts))
        (out / "adapter/certificate.json").write_text("{}")
        for name in ("report.json", "config.yaml", "metrics.jsonl"):
            (out / name).write_text("{}")
        (out / "checkpoints").mkdir(exist_ok=True)
        (out / "checkpoints/resume.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
        return TrainResult("adapter", round(steps * 0.8), "highest likeness", steps, 148.0, 0.04, 0.86, 0.05, "pocket")

    def _checkpoint(self, job, out, step, steps):
        part = step / steps
        likeness = round(0.04 + 0.82 * min(1, 1.25 * part) ** 0.6 - (0.05 if part == 1 else 0), 2)
        folder = out / "samples" / str(step)
        folder.mkdir(parents=True, exist_ok=True)
        for index, background in enumerate(("beach", "studio", "library", "night sky")):
            who = SUBJECT if likeness > 0.3 else sample_identity(HELD_OUT_SEED + 500 + index)
            scene = sample_scene(900 + index, background=background, style="photo")
            Pillow.fromarray(render(who, scene, 128)).save(folder / f"{index:02d}.png")
            path = f"samples/{step}/{index:02d}.png"
            self._tell(
                job, "sample", step=step, path=path, prompt=f"photo of sks woman, {background}", likeness=likeness
            )
        (folder / "scores.json").write_text("{}")
        self._tell(job, "metrics", step=step, likeness=likeness, bleed=0.03)

    def _generate(self, job, out):
        self._set(job, state="generating")
        self._tell(job, "stage", name="generating", message="Making pictures")
        config = job.config
        if config.pack:
            pack = load_pack(config.pack, self.settings.presets_dir)
            shots = [(shot.name, shot.prompt) for shot in pack.shots]
        else:
            shots = [(f"prompt_{index + 1}", prompt) for index, prompt in enumerate(config.prompts)]
        images = []
        todo = [(one, *shot, number) for one in config.by_strength() for shot in shots for number in range(one.count)]
        for index, (one, name, prompt, number) in enumerate(todo):
            if index == len(todo) // 2:
                self._half_way(job)
            (out / name).mkdir(exist_ok=True)
            scene = sample_scene(3000 + index, style="photo", accessory="none")
            file = f"{name}/{number:03d}{f'_at_{one.adapter_scale:g}' if config.strengths else ''}.png"
            Pillow.fromarray(render(SUBJECT, scene, 256)).save(out / file)
            words = fill(prompt, instance_token="sks", class_noun="woman")
            likeness = round(0.75 + 0.2 * math.sin(index), 3)
            seed = config.seed + (number if config.strengths else index)
            images.append(Image(file, name, words, "", seed, likeness, 0, adapter_scale=one.adapter_scale))
            self._tell(job, "image", **asdict(images[-1]))
            self._tell(job, "progress", step=index + 1, total=len(todo), eta_s=len(todo) - index, message="")
        ranked = sorted(images, key=lambda image: -image.likeness)
        kept = ranked
        if config.keep is not None:
            kept = [image for name, _ in shots for image in [i for i in ranked if i.shot == name][: config.keep]]
        left_out = tuple(image for image in ranked if image not in kept)
        images = [replace(image, rank=rank) for rank, image in enumerate((i for i in ranked if i in kept), 1)]
        Pillow.open(out / images[0].file).save(out / "contact_sheet.png")
        with zipfile.ZipFile(out / "pictures.zip", "w") as archive:
            for image in images:
                archive.write(out / image.file, image.file)
        mean, made = (sum(image.likeness for image in rows) / len(rows) for rows in (images, ranked))
        packed = ("contact_sheet.png", "pictures.zip", 12.0, mean, "pocket")
        return GenerateResult(tuple(images), *packed, left_out=left_out, likeness_mean_made=made)

    def _export(self, job, out):
        self._set(job, state="exporting")
        for name in ("Ada.safetensors", "certificate.json"):
            (out / name).write_text("{}")
        files = ("Ada.safetensors", "certificate.json")
        return ExportResult(job.config.format, files, "certificate.json", 4, 1, 0.1, 4.0)

    def _publish(self, job, out):
        self._set(job, state="publishing")
        config = job.config
        self._tell(job, "stage", name="assembling", message="Writing the model card and its gallery.")
        (out / "repo" / "gallery").mkdir(parents=True, exist_ok=True)
        (out / "repo" / "README.md").write_text(CARD)
        Pillow.new("RGB", (64, 64), "#886644").save(out / "repo" / "gallery" / "01.png")
        self._half_way(job)
        commit = None if config.dry_run else "c" * 40
        url, files = f"https://huggingface.co/{config.repo}", ("README.md", "gallery/01.png")
        return PublishResult(
            config.repo, url, commit, config.public, config.form, "apache-2.0", files, 1, 4000, (), 1.0
        )

    def _finish(self, job, out):
        self._set(job, state="finishing")
        if job.view.source:
            made = self.out_dir(job.view.source, owner=job.view.owner)
            images = self.jobs[job.view.source].view.result["images"]
            images = [row for row in images if not job.config.only or row["file"] in job.config.only]
            job.photos = [(row["file"], Pillow.open(made / row["file"]).convert("RGB")) for row in images]
        pictures = []
        for folder in ("pictures", "previews"):
            (out / folder).mkdir(exist_ok=True)
        for index, (name, picture) in enumerate(job.photos):
            file, before, after = (
                f"pictures/{index}.png",
                f"previews/{index}_before.webp",
                f"previews/{index}_after.webp",
            )
            picture.save(out / file)
            picture.save(out / before)
            ImageOps.invert(picture).save(out / after)
            size = (out / file).stat().st_size
            shape = (picture.height, picture.width)
            pictures.append(FinishedPicture(file, name, shape, size, None, before, after, 0.1, "", ()))
            self._tell(job, "image", **asdict(pictures[-1]))
            self._tell(job, "progress", step=index + 1, total=len(job.photos), eta_s=0.0, message=name)
        job.photos[0][1].save(out / "contact_sheet.png")
        with zipfile.ZipFile(out / "pictures.zip", "w") as archive:
            for row in pictures:
                archive.write(out / row.file, row.file)
        return FinishResult(tuple(pictures), (), "contact_sheet.png", "pictures.zip", 1.0, job.config.chain)


def fork_servers(orders):
    """Fork a server for each line of JSON; it tells its address and its process where the line says."""
    import gradio  # noqa: F401

    import studio.web.api.interfaces
    import studio.web.page.build
    import studio.web.routes
    import studio.web.server  # noqa: F401

    assert threading.active_count() == 1, "a fork keeps only one thread, and the locks of all"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # servers are killed; nobody waits for them
    for line in orders:
        wanted = json.loads(line)
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(wanted["environment"])
        for stream, path in ((1, os.devnull), (2, wanted["log"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        with open(wanted["told"], "w", encoding="utf-8") as told:
            main(wanted["order"], told)
        return


def main(order, told=sys.stdout):
    """Serve the app with a scripted studio behind it until the process is ended; its address is written to ``told``."""
    from studio.core.config import CheckConfig
    from studio.core.settings import Settings
    from studio.pocket.samples import sample_photos
    from studio.web import server

    settings = Settings(**order.pop("settings"))
    server.prepare_environment(settings)
    studio = ScriptedStudio(settings, **order)
    photos = sample_photos(settings.home / "foreign", count=1, size_px=64)
    ScriptedStudio._submit(studio, "check", CheckConfig(), "stranger", "foreign", photos=[("a.jpg", photos[0])])
    app = server.create_app(studio, settings)
    listener = server._listen(settings.host, settings.port)
    print(f"http://{settings.host}:{listener.getsockname()[1]} {os.getpid()}", file=told, flush=True)
    if told is not sys.stdout:
        told.close()
    server.run(app, listener)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(json.loads(sys.argv[1]))
    else:
        fork_servers(sys.stdin)
