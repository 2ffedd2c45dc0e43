"""Likeness Studio in the browser: ``python app.py``, then open the address that it prints.

Composition only: settings -> studio -> server. STUDIO_* variables change the settings; see studio/core/settings.py.
"""

import sys


def main() -> int:
    """Serve until stopped; returns the exit code."""
    try:
        return _serve()
    except KeyboardInterrupt:
        return 0


def _serve() -> int:
    from studio.core.errors import StudioError
    from studio.core.settings import load_settings
    from studio.web.server import serve

    try:
        serve(load_settings(), on_ready=lambda address: print(f"Likeness Studio is at {address}", flush=True))
    except StudioError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
