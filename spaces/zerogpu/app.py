"""Likeness Studio on ZeroGPU: pictures with published adapters. ``python app.py`` is what the platform starts.

Composition only, and the order counts: settings -> what Gradio reads from the environment -> ``spaces``, before torch
-> bases loaded on cuda -> page. Without the package ``spaces`` it computes on what is here.
"""

import os
import sys


def main() -> int:
    """Serve until stopped; returns the exit code."""
    try:
        return _serve()
    except KeyboardInterrupt:
        return 0


def _serve() -> int:
    lent = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
    if lent:
        os.environ.setdefault("STUDIO_RESIDENT_BASES", "pocket,sd15,sdxl")
    os.environ.setdefault("STUDIO_RESULTS_CACHE", "off")  # pictures of people whom visitors know stay with them

    from studio.core.errors import StudioError
    from studio.core.openmp import set_openmp_defaults
    from studio.core.settings import load_settings
    from studio.web.server import prepare_environment

    try:
        settings = load_settings()
        prepare_environment(settings)
        set_openmp_defaults()
        try:
            from spaces import GPU
        except ImportError:
            GPU = None  # noqa: N806
        from studio.web.zerogpu import serve

        serve(
            settings,
            lend=GPU,
            login="SPACE_ID" in os.environ and "OAUTH_CLIENT_ID" in os.environ,
            side_by_side=lent,
            on_ready=lambda address: print(f"Likeness Studio is at {address}", flush=True),
        )
    except StudioError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
