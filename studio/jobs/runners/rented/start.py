"""What a rented machine runs first, as ``python3 -c``: nothing of the studio is there yet, only the standard library.

It fetches the studio's code and the ticket of its attempt, installs packages where they lack, and becomes the agent.
Its arguments are modules that must be there; ``STUDIO_START_URL`` and ``STUDIO_START_TOKEN`` lead to the server.
"""

import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request

_PAUSES_S = (1, 2, 5, 10, 20)
_PATIENCE_S = 600.0
_OVER = (403, 404, 410)


def main() -> None:
    """Become the agent; exits with 3 where the attempt is over."""
    os.umask(0o077)
    url, token = os.environ.pop("STUDIO_START_URL"), os.environ.pop("STUDIO_START_TOKEN")
    place = tempfile.mkdtemp(prefix="studio-")
    code = os.path.join(place, "code")
    with tarfile.open(fileobj=io.BytesIO(_fetch(url + "/code", token))) as archive:
        archive.extractall(code, filter="data")
    if not all(map(importlib.util.find_spec, sys.argv[1:])):
        wanted = os.path.join(code, "requirements.txt")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
    ticket = os.path.join(place, "ticket.json")
    with open(ticket, "wb") as file:  # last: its links do not hold for ever
        file.write(_fetch(url + "/ticket", token))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (code, os.environ.get("PYTHONPATH"))))
    os.environ.setdefault("STUDIO_HOME", os.path.join(place, "home"))
    os.chdir(place)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "studio", "attempt", ticket])


def _fetch(url: str, token: str) -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + token})
    give_up_s = time.monotonic() + _PATIENCE_S
    number = 0
    while True:
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if error.code in _OVER:
                sys.exit(3)
            said: Exception = error
        except OSError as error:
            said = error
        if time.monotonic() > give_up_s:
            raise said
        time.sleep(_PAUSES_S[min(number, len(_PAUSES_S) - 1)])
        number += 1


if __name__ == "__main__":
    main()
