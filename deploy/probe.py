"""Ask the server of this container whether it is well: ``python deploy/probe.py health`` (or ``ready``).

Exit status 0 for yes. The server opens to its token only, which a probe of Docker or Kubernetes cannot send itself.
Nothing but the standard library, so that a probe costs little.
"""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main(what: str) -> int:
    """Return 0 if the server answers ``/v1/<what>`` with 200; otherwise 1, and print what it says."""
    token = os.environ.get("STUDIO_TOKEN")
    kept = Path(os.environ.get("STUDIO_HOME", Path.home() / ".likeness-studio")) / "server-token"
    if token is None and kept.is_file():
        token = kept.read_text(encoding="utf-8").strip()
    address = f"http://127.0.0.1:{os.environ.get('STUDIO_PORT', '7860')}/v1/{what}"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=8):
            return 0
    except urllib.error.HTTPError as error:
        print(error.read().decode(errors="replace"))
    except OSError as error:
        print(error)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
