"""Train and make pictures through the page's named endpoints, with nothing installed but gradio_client.

    python examples/gradio_client_example.py http://127.0.0.1:7860 out/demo/photos

A server on this machine opens with the token in its home folder, one elsewhere with STUDIO_REMOTE_TOKEN: the token that
it printed when it started.
"""

import os
import sys
from pathlib import Path
from time import sleep
from typing import Any

from gradio_client import Client, handle_file


def token_for(address: str) -> str | None:
    """Return the token that opens a server; None if there is none here."""
    kept = Path(os.environ.get("STUDIO_HOME", Path.home() / ".likeness-studio")) / "server-token"
    is_here = address.startswith(("http://127.0.0.1:", "http://localhost:")) and kept.is_file()
    return os.environ.get("STUDIO_REMOTE_TOKEN") or (kept.read_text().strip() if is_here else None)


def finished(studio: Client, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for a job's end; a job that is not completed ends the program with its cause."""
    while job["state"] not in ("completed", "stalled", "cancelled"):
        sleep(1)
        job = studio.predict(job["id"], api_name="/job")
    if job["state"] != "completed":
        sys.exit(f"{job['title']} is {job['state']}: {job['cause']}")
    return studio.predict(job["id"], api_name="/job")


def main(address: str, photos: Path) -> None:
    """Check the photos, train on them, make two pictures and print where they lie."""
    studio = Client(address, token=token_for(address), verbose=False, analytics_enabled=False)
    files = [handle_file(str(path)) for path in sorted(photos.glob("*.jpg"))]
    check = finished(studio, studio.predict(files, "Ada", "woman", api_name="/check_photos"))
    run = finished(studio, studio.predict(check["id"], settings={"seed": 1}, api_name="/train"))
    print(run["files"]["adapter/pytorch_lora_weights.safetensors"])
    made = studio.predict(run["id"], prompts=["photo of {subject} at the beach"], count=2, api_name="/generate")
    print(finished(studio, made)["files"]["pictures.zip"])
    studio.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
