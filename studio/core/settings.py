"""Where the studio keeps things and how it serves, from STUDIO_* environment variables.

The only reader of the environment. Ground level: no torch, no gradio.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from studio.core.errors import InputError, Problem
from studio.core.strict import problems_of

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine that nobody else reaches it by."""

PROJECT_ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the package ``studio``: the checkout, or site-packages."""

_PACKAGED = PROJECT_ROOT / "studio" / "shipped"
SHIPPED_ROOT = _PACKAGED if _PACKAGED.is_dir() else PROJECT_ROOT
"""The folder that holds presets/, spaces/, app.py and the requirements: the checkout, or their copy in a wheel."""


DeviceName = Literal["auto", "cpu", "cuda", "mps"]
LanguageName = Literal["auto", "en", "de"]
NudityName = Literal["off", "warn", "refuse"]
WorksName = Literal["lead", "always", "never"]


class Settings(BaseSettings):
    """Settings of one installation; every field is read from ``STUDIO_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="STUDIO_", frozen=True, extra="forbid", use_attribute_docstrings=True)

    home: Path = Path.home() / ".likeness-studio"
    """Folder for jobs, datasets, runs and pictures."""
    presets_dir: Path = SHIPPED_ROOT / "presets"
    """Folder that holds train/*.yaml and packs/*.yaml."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=7860, ge=0, le=65535)
    """Port to listen on; 0 lets the system choose."""
    device: DeviceName = "auto"
    """Device for training and generation; auto prefers CUDA, then MPS, then the CPU."""
    gpus: str = Field(default="auto", pattern=r"^(auto|[\w-]+(,[\w-]+)*)$")
    """NVIDIA GPUs to use, one job on each at a time: auto uses all; or numbers or UUIDs, such as 0,2."""
    share_gpu: bool = True
    """Make pictures beside a training on its own GPU while no GPU is free, where the fit plan has room for both;
    the training takes longer meanwhile. false lets pictures wait."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """CPU threads per job; None leaves the choice to torch."""
    max_upload_bytes: int = Field(default=64 * 10**6, ge=1000)
    """Maximum size of one photo, bytes."""
    max_photos: int = Field(default=100, ge=1, le=1000)
    """Maximum number of photos in one check."""
    job_silence_s: int = Field(default=3600, ge=1)
    """A job that reports nothing for this many seconds counts as hung and is ended; downloads report nothing either."""
    warm_s: int = Field(default=300, ge=0, le=7 * 24 * 3600)
    """Seconds that a process which has made pictures stays with its base loaded, so that the next pictures begin at
    once; it goes sooner where a training needs the device. 0 keeps none."""
    warm_max_bytes: int | None = Field(default=None, ge=0)
    """What the bases that stay loaded there may take of the device's memory, and of main memory beside a GPU, bytes;
    the least recently used goes first. None is half of it."""
    keep_days: float | None = Field(default=None, ge=0, le=36500)
    """Days that a job is kept after its end and that of all that was made from it; then it is deleted with them. An
    owner may choose fewer. 0 keeps jobs until somebody deletes them; None does so too where nobody logs in, and is 30
    days where people log in or have keys."""
    wait_days: float | None = Field(default=None, ge=0, le=36500)
    """Days that a job may wait for its turn; then it ends as stalled, to be retried or forgotten. While the queue is
    paused no job ends so, and that time does not count; time in which no server runs does. 0 lets jobs wait for ever;
    None does so too where nobody logs in, and is 7 days where people log in or have keys."""
    job_environment: str = ""
    """Variables that the processes of jobs also get, by name, separated by commas; without it they get those of the
    system, the network and the libraries that compute, and no token or key of another program."""
    bases_dir: Path | None = None
    """Folder for downloaded and converted bases; None uses the folder bases in STUDIO_HOME."""
    bases_max_bytes: int = Field(default=200 * 10**9, ge=10**6)
    """Maximum size of all downloaded bases together, bytes; the least recently used is deleted first."""
    resident_bases: str = "pocket"
    """Bases that the Space zerogpu loads once and keeps, separated by commas."""
    results_cache: str = Field(default="disk", repr=False)  # may hold a password
    """Where pictures are kept for equal requests: disk, off, redis://HOST or redis+cluster://HOST (rediss: TLS)."""
    results_max_bytes: int = Field(default=2 * 10**9, ge=10**5)
    """Maximum size of these pictures on the disk, bytes; the least recently used are deleted first."""
    civitai_key: SecretStr | None = None
    """Your key for Civitai, for models that need one."""
    civitai_url: str = "https://civitai.com"
    """Address of Civitai."""
    database_url: SecretStr | None = None  # may hold a password
    """Postgres database for the table of jobs, for several servers on one shared STUDIO_HOME:
    postgresql://USER:PASSWORD@HOST/DATABASE. None keeps the table in STUDIO_HOME."""
    works: WorksName = "lead"
    """Which of several servers on one database runs jobs: lead, the one that leads does; always, this one does beside
    others, for one worker on each GPU; never, this one only answers."""
    drain_s: int = Field(default=0, ge=0, le=7 * 24 * 3600)
    """Told to stop (SIGTERM), the server takes no more jobs; those that run may go on for so many seconds. Then they
    stop, and go on at the next start or on another server. 0 stops them at once. What runs behind ssh
    or in a Ray cluster goes on there meanwhile, and is not waited for."""
    max_waiting: int = Field(default=1000, ge=1)
    """Most jobs that may wait, of all owners together; while there are as many, new ones are refused with 503."""
    root_path: str = Field(default="", pattern=r"^(/[\w.~-]+)*$")
    """Path below which a gateway serves this studio, such as /studio."""
    log: Literal["text", "json"] = "text"
    """How the server logs: text, or json for one object a line, each request among them; the address that is printed
    at the start then comes without its token."""
    metrics_token: SecretStr | None = Field(default=None, exclude=True)
    """Token that opens /v1/metrics and nothing else, where people log in, too; None leaves it to the server's token."""
    secrets_key: SecretStr | None = None
    """Key that seals the tokens of waiting jobs, the secrets of webhooks and the links that came with requests in the
    table, 32 characters and more, such as `openssl rand -hex 32` gives; several, separated by commas: the first one
    seals, all open. None keeps tokens in memory until a restart, and the others as they are."""
    storage_url: SecretStr | None = None  # may hold a key
    """Where files lie that other machines fetch and bring: a whole path, s3://BUCKET/FOLDER, gs://... or az://...; None
    uses the folder storage in STUDIO_HOME. Only runners on other machines need it."""
    runner: str = Field(default="local", pattern=r"^(local|ray|vast|hf_jobs|ssh:[A-Za-z0-9_][\w.@:-]*)$")
    """What carries out jobs that need a GPU: local is this machine; ssh:HOST or ssh:USER@HOST is another one that
    OpenSSH reaches without a password; ray is the Ray cluster that this machine belongs to (RAY_ADDRESS, if to
    several); vast and hf_jobs rent one by the minute for each job, from Vast.ai or Hugging Face, and need
    STUDIO_PUBLIC_URL, STUDIO_RENT_KEY and STUDIO_RENT_MONTHLY_BUDGET."""
    runner_jobs: int | None = Field(default=None, ge=1, le=1000)
    """Most jobs that run at the same time on other machines: for ray, the GPUs that it may take. None is as many as
    this machine would run."""
    public_url: str = Field(default="", pattern=r"^(https?://[^\s/?#@]+(/[\w.~-]+)*)?/?$")
    """Address at which rented machines and the nodes of a Ray cluster reach this server, such as
    https://studio.example.org; a cluster needs none where this server's own address leads to it."""
    runner_python: str = Field(default="", pattern=r"^([\w./~+-]*)$")
    """Python on that machine that has what requirements.txt names; empty installs it there once, below
    ~/.likeness-studio."""
    rent_key: SecretStr | None = Field(default=None, exclude=True)
    """Key of the service that rents machines out: an API key of Vast.ai, or a Hugging Face token that may run jobs."""
    rent_url: str = Field(default="", pattern=r"^(https?://[^\s?#@]+)?$")
    """Address of that service; empty is its own."""
    rent_monthly_budget: float | None = Field(default=None, gt=0, le=10**6)
    """Most that rented machines may cost in a calendar month (UTC), US dollars."""
    rent_max_per_job: float = Field(default=5.0, gt=0, le=10**5)
    """Most that one job may cost, all its attempts together, US dollars."""
    rent_max_price_per_hour: float = Field(default=0.8, gt=0, le=10**4)
    """Most that a machine may cost per hour, US dollars; of those on offer the cheapest is taken."""
    rent_machines: int = Field(default=1, ge=1, le=64)
    """Most machines that are rented at the same time."""
    rent_gpu: str = Field(default="", pattern=r"^[\w. -]*$")
    """Which GPU: a name such as RTX 4090 of Vast.ai, or a flavor such as l4x1 of Hugging Face; empty takes any."""
    rent_memory_gb: float = Field(default=24.0, gt=0, le=10**4)
    """Least memory of its GPU, gigabytes."""
    rent_disk_gb: int = Field(default=80, ge=10, le=10**4)
    """Disk of a rented machine, gigabytes."""
    rent_image: str = Field(default="python:3.12-slim-bookworm", pattern=r"^[\w./:@-]+$")
    """Container image that it starts: any with Python 3.11 or newer and pip. What requirements.txt names is installed
    at each start unless the image has it (deploy/Dockerfile makes such an image)."""
    rent_boot_minutes: float = Field(default=25.0, gt=0, le=10**4)
    """A rented machine that is not heard of for so long after it was rented is given back."""
    rent_first_step_minutes: float = Field(default=45.0, gt=0, le=10**4)
    """One that was heard of and makes no progress for so long is given back, too; it fetches the base in that time."""
    rent_stall_minutes: float = Field(default=30.0, gt=0, le=10**4)
    """One that has made progress and then makes none for so long is given back."""
    rent_max_minutes: float = Field(default=480.0, gt=0, le=10**5)
    """Longest time for which a machine is rented; less where the money ends before."""
    backup_url: SecretStr | None = None  # may hold a key
    """Folder that finished jobs are copied to, and restored from at the start: hf://buckets/..., s3://..., file://..."""
    weights_max_bytes: int | None = Field(default=None, ge=0)
    """Most that the weights of completed jobs may take of this disk, bytes, with STUDIO_BACKUP_URL: the least recently
    used are deleted here and fetched from the backup when they are needed. None keeps all of them here."""
    hub_token: SecretStr | None = None
    """Your token for the Hugging Face Hub, for publishing; None uses that of `hf auth login` or HF_TOKEN."""
    remote_server: str = ""
    """Address of a studio on another machine, for the command `remote`."""
    remote_token: SecretStr | None = None
    """Token for that studio: the one that it printed at its start, or a Hugging Face token for a private Space."""
    remote_insecure: bool = False
    """Send the token over plain http to another machine, too, where everybody on the way can read it."""
    owner: str = "local"
    """Owner whose jobs may use this machine's tokens: local, or hf: and the id of an account where people log in."""
    admins: str = ""
    """Where people log in: who sees the tab Admin, beside STUDIO_OWNER; owners such as hf:ID, separated by commas."""
    login: bool | None = None
    """Whether visitors log in with Hugging Face and see only their own jobs; None: if the platform offers it."""
    guest: bool = False
    """Set by the server for jobs of others than the machine's owner: a cached repository is shown to those only whom
    the Hub shows it."""
    token: SecretStr | None = Field(default=None, exclude=True)  # never in what jobs get as their settings
    """Token that opens this server; None makes one at the first start and keeps it in home; off asks for none, and is
    refused where others reach the server."""
    auth: Literal["auto", "keys"] = "auto"
    """How requests are known: auto by the token, or by a login where people log in; keys by API keys, which
    `python -m studio keys create` makes for each owner."""
    quota_requests_per_minute: int | None = Field(default=600, ge=1)
    """Requests of one API key in a minute; a browser that is signed in with it may make ten times as many."""
    quota_body_bytes: int | None = Field(default=None, ge=1)
    """Bytes of the body of one request with an API key; None leaves it at what the address takes."""
    quota_photos: int | None = Field(default=None, ge=0)
    """Photos that are kept of one owner; None is without limit."""
    quota_jobs: int | None = Field(default=None, ge=0)
    """Jobs of one owner that have not ended; None is without limit."""
    quota_gpu_minutes: float | None = Field(default=None, ge=0)
    """Minutes that the jobs of one owner may run in a calendar month (UTC), all but checks; None is without limit."""
    trusted_hosts: str = ""
    """Host names, separated by commas, under which this server is reached beside its IP address; * allows any."""
    webhook_loopback: bool = False
    """Webhooks may also lead to this machine itself, over plain http and on any port: for development."""
    c2pa_cert: Path | None = None
    """File with the certificate (PEM, its chain below it) that signs generated pictures with Content Credentials; needs
    the extra c2pa. None leaves them at their IPTC/XMP mark."""
    c2pa_key: Path | None = None
    """File with its private key (PEM, without a password), readable to the studio alone."""
    c2pa_timestamp_url: str = Field(default="", pattern=r"^(https?://[^\s?#@]+)?$")
    """Address of a time stamping service (RFC 3161) that is asked for each signature, so that it outlives the
    certificate; empty asks none."""
    nudity_pictures: NudityName = "off"
    """What is done about pictures made here that a check takes for nudity: off does not check, warn says so, refuse
    withholds them; needs the extra nudity."""
    nudity_photos: NudityName = "off"
    """The same for photos that are brought."""
    nudity_from: float = Field(default=0.8, gt=0, le=1)
    """Score of the check, 0 to 1, from which on something is done."""
    mcp: bool = False
    """Serve the named operations as tools for agents (Model Context Protocol) at /mcp; needs the extra mcp."""
    frame_ancestors: str = "'self'"
    """Pages that may show the app in a frame, as in the CSP directive of that name."""
    language: LanguageName = "auto"
    """Language of the page and of the commands' help: en (English) or de (German). auto takes the system's; where that
    is another one, English."""

    @field_validator("token")
    @classmethod
    def _hard_to_guess(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else "off"
        if text != "off" and not _TOKEN.fullmatch(text):
            raise ValueError("must be off, or 16 and more letters, digits, hyphens and underscores")
        return value

    @field_validator("metrics_token")
    @classmethod
    def _as_hard_to_guess(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError("must be 16 and more letters, digits, hyphens and underscores")
        return value

    @field_validator("works")
    @classmethod
    def _beside_others(cls, value: str, info: ValidationInfo) -> str:
        if value != "lead" and info.data.get("database_url") is None:
            raise ValueError("needs STUDIO_DATABASE_URL: only there can several servers share the jobs")
        return value

    @field_validator("weights_max_bytes")
    @classmethod
    def _in_the_backup(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("backup_url") is None:
            raise ValueError("needs STUDIO_BACKUP_URL: only what is in a backup may be deleted here")
        return value

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _POSTGRES.match(value.get_secret_value()):
            raise ValueError("must begin with postgresql://")
        return value

    @field_validator("secrets_key")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and any(len(key.strip()) < 32 for key in value.get_secret_value().split(",")):
            raise ValueError("must be 32 characters and more, such as `openssl rand -hex 32` gives")
        return value

    @field_validator("results_cache")
    @classmethod
    def _known_cache(cls, value: str) -> str:
        if not _CACHES.match(value):
            raise ValueError(
                "must be disk, off, or an address that begins with redis://, rediss:// or redis+cluster://"
            )
        return value


_OAUTH = ("SPACE_ID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
"""Given by a Space whose front matter says ``hf_oauth: true``; Gradio reads them, too."""

_CACHES = re.compile(r"^(disk|off|rediss?(\+cluster)?://.+)$")

_SECRETS = frozenset({"token", "metrics_token", "database_url", "secrets_key"})
"""Settings that hold a secret and have a rule: what was given must not be shown with it."""

_POSTGRES = re.compile(r"^postgres(ql(\+psycopg)?)?://")

_TOKEN = re.compile(r"[\w.~-]{16,200}", re.ASCII)

_SPACE_FRAMES = "'self' https://huggingface.co https://*.hf.space"
"""The page of a Space is shown in a frame of the Hub's."""


def load_settings() -> Settings:
    """Read the environment; where a host gives only ``PORT``, that is the port.

    A Hugging Face Space gives its own names: it listens to its proxy on ``GRADIO_SERVER_PORT``, and offers a login with
    ``OAUTH_CLIENT_ID`` and others. Elsewhere Gradio only plays a login, of whoever this machine is logged in as: it may
    be asked for to look at it, where nobody else can come.

    Raises:
        InputError: variables out of range, all at once, each by its full name.
    """
    on_space = "SPACE_ID" in os.environ
    port = os.environ.get("PORT") or (os.environ.get("GRADIO_SERVER_PORT") if on_space else None)
    given: dict[str, Any] = {"port": port} if port and "STUDIO_PORT" not in os.environ else {}
    if on_space and "STUDIO_HOST" not in os.environ:
        given["host"] = "0.0.0.0"
    if on_space and "STUDIO_FRAME_ANCESTORS" not in os.environ:
        given["frame_ancestors"] = _SPACE_FRAMES
    if on_space and "STUDIO_TRUSTED_HOSTS" not in os.environ:
        # The platform's proxy finds a Space by its name, and asks whether it is alive under another one.
        given["trusted_hosts"] = "*"
    offered = on_space and os.environ.get("SYSTEM") == "spaces" and all(os.environ.get(name) for name in _OAUTH)
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise InputError.of([_by_variable(found) for found in problems_of(error, Settings)]) from None
    if settings.login and not offered and settings.host not in LOOPBACK:
        message = "cannot be true here: anybody could make up who they are"
        cure = "leave it out, or run on a Space whose front matter says hf_oauth: true"
        raise InputError.of([Problem("STUDIO_LOGIN", message, cure, "no_login")])
    if settings.login and settings.auth == "keys":
        cure = "leave out one of the two"
        raise InputError.of([Problem("STUDIO_AUTH", "cannot be keys where people log in", cure, "two_logins")])
    if settings.auth == "keys":
        return settings.model_copy(update={"login": False})
    if settings.login is None:
        settings = settings.model_copy(update={"login": offered})
    return settings


def language_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> str:
    """Return the language to speak: as set, or for ``auto`` as the system's variables say, in the order of POSIX."""
    if settings.language != "auto":
        return settings.language
    told = next((environment[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(name)), "")
    return re.split(r"[^A-Za-z]", told, maxsplit=1)[0].lower()


def _by_variable(found: Problem) -> Problem:
    message = found.message.partition(" (got ")[0] if found.where in _SECRETS else found.message
    return replace(found, where=f"STUDIO_{found.where.upper()}", message=message)
