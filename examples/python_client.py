"""Train on a studio on another machine from Python: photos are made small here, the finished run comes home.

    python examples/python_client.py http://127.0.0.1:7860 out/demo/photos out/far

The same call goes on after anything that broke. A server of this machine opens with the token in its home folder, one
elsewhere with STUDIO_REMOTE_TOKEN: the token that it printed when it started.
"""

import sys
from pathlib import Path

from studio.core.server_token import known_token
from studio.core.settings import load_settings
from studio.remote.client import Server
from studio.remote.run import TrainRequest, generate, train
from studio.service import Studio


def main(address: str, photos: Path, out: Path) -> None:
    """Train on ``photos`` at ``address`` and bring the run and some pictures to ``out``."""
    settings = load_settings()
    token = known_token(settings, address)
    request = TrainRequest(subject="Ada", class_noun="woman", changes={"seed": 1})
    with Server(address, token=token, insecure=settings.remote_insecure) as server:
        run = train(
            Studio(settings).run, server, request, photos, out / "run", on_event=lambda event: print(event.kind)
        )
        print(f"sent {run.sent_bytes} of {run.original_bytes} bytes; likeness {run.train['likeness_after']}")
        pictures = generate(
            server, str(out / "run"), {"prompts": ["photo of {subject} at the beach"]}, out / "pictures"
        )
        print(out / "pictures" / pictures["images"][0]["file"])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
