"""The token that opens a server, as in Jupyter: made at the first start, kept in the home, printed with the address.

A page of another port of this machine, or a program of another user on it, reaches 127.0.0.1 as easily as the owner's
browser does. What tells them apart is whether they can read this file.
"""

import contextlib
import os
import secrets
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from studio.core.errors import InputError, Problem
from studio.core.settings import LOOPBACK, Settings

TOKEN_FILE = "server-token"
"""Name of the file in the home; only the user who runs the studio may read it."""

OFF = "off"
"""Value of STUDIO_TOKEN of a server without a token."""


def server_token(settings: Settings) -> str | None:
    """Return the token that opens this server; the first call on a home makes it.

    Returns:
        The token; None where it is turned off, or where people log in instead. On this machine alone a login is only
        played, with cookies that anybody can make up, so the token is needed as well.

    Raises:
        OSError: the home cannot be written or read.
    """
    if is_off(settings) or uses_keys(settings) or (settings.login and settings.host not in LOOPBACK):
        return None
    if settings.token is not None:
        return settings.token.get_secret_value()
    home = settings.home.expanduser().absolute()
    return kept_secret(home, TOKEN_FILE)


def uses_keys(settings: Settings) -> bool:
    """Tell whether requests are known by API keys, and the token opens nothing."""
    return settings.auth == "keys"


def is_off(settings: Settings) -> bool:
    """Tell whether the owner wants a server without a token."""
    return settings.token is not None and settings.token.get_secret_value() == OFF


def lends_logins(settings: Settings, owner: str) -> bool:
    """Tell whether somebody's jobs may use this machine's own logins and keys, be it only to read.

    Without a token and a login whoever reaches the server is its owner to it, and has shown nothing.
    """
    return owner == settings.owner and (bool(settings.login) or uses_keys(settings) or not is_off(settings))


def require_guarded(settings: Settings) -> None:
    """Refuse to serve without token and login where others reach the server; raises InputError."""
    if is_off(settings) and not settings.login and not uses_keys(settings) and settings.host not in LOOPBACK:
        message = f"cannot be off while the server listens on {settings.host}: whoever reaches it would own it"
        raise InputError.of(
            [Problem("STUDIO_TOKEN", message, "leave it out, or set STUDIO_HOST=127.0.0.1", "no_token")]
        )


def known_token(settings: Settings, url: str) -> str | None:
    """Return the token that a program of this user sends to a server, without being told.

    Args:
        settings: of this program.
        url: address of the server.

    Returns:
        STUDIO_REMOTE_TOKEN if it is set. Otherwise the token in the home, but only for an address of this machine:
        nobody else's server is given it. None if there is neither.
    """
    if settings.remote_token is not None:
        return settings.remote_token.get_secret_value()
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return None
    if not is_this_machine(host):
        return None
    if settings.token is not None and not is_off(settings):
        return settings.token.get_secret_value()
    return _read(settings.home.expanduser().absolute())


def is_this_machine(host: str) -> bool:
    """Tell whether a host name or address never leaves this machine."""
    if host.lower() in LOOPBACK:
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def kept_secret(home: Path, name: str) -> str:
    """Return a secret of this home, random and of 256 bits; the first call makes it, in a file of that name.

    Raises:
        OSError: the home cannot be written or read.
    """
    return _read(home, name) or _make(home, name)


def _read(home: Path, name: str = TOKEN_FILE) -> str | None:
    try:
        return (home / name).read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def _make(home: Path, name: str) -> str:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, part = home / name, home / f".{name}-{secrets.token_hex(8)}"
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{secrets.token_urlsafe(32)}\n")
        try:
            # Unlike a rename it fails if another server on this home was faster: both must know the same token.
            with contextlib.suppress(FileExistsError):
                os.link(part, path)
        except OSError:  # a file system without hard links
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    found = _read(home, name)
    if found is None:
        raise OSError(f"{path} cannot be read; delete it")
    return found
