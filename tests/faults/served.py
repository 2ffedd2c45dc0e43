"""The whole app over fake verbs, as ``app.py`` serves it: settings from the environment, stopped by a signal.

Run as a script; it prints what ``app.py`` prints.
"""

import functools
import sys

import fake_verbs

import studio.service
from studio.core.settings import load_settings
from studio.web.server import serve

if __name__ == "__main__":
    studio.service.Studio = functools.partial(studio.service.Studio, verbs=fake_verbs.VERBS, grace_s=5.0)
    serve(load_settings(), on_ready=lambda address: print(f"Likeness Studio is at {address}", flush=True))
    sys.exit(0)
