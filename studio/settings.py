"""Where the studio keeps things and how it serves, from STUDIO_* environment variables.

The only reader of the environment. Ground level: no torch, no gradio.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds app.py and presets/."""


class Settings(BaseSettings):
    """Settings of one installation; every field is read from ``STUDIO_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix="STUDIO_", frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    home: Path = Path.home() / ".likeness-studio"
    """Folder for jobs, datasets, runs and pictures."""
    presets_dir: Path = PROJECT_ROOT / "presets"
    """Folder that holds train/*.yaml and packs/*.yaml."""
    host: str = "127.0.0.1"
    """Address that the app listens on."""
    port: int = Field(default=7860, ge=0, le=65535)
    """Port that the app listens on; 0 lets the system choose."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device for training and generation; auto takes CUDA, then MPS, then the CPU."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """CPU threads for one job; None leaves torch's own choice."""
    max_upload_bytes: int = Field(default=64 * 2**20, ge=2**10)
    """Largest single photo that is accepted, bytes."""
    max_photos: int = Field(default=100, ge=1, le=1000)
    """Most photos that one check accepts."""
    owner: str = "local"
    """Name of the one local owner."""
