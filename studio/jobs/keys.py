"""API keys in the database of the queue: made, recognised, revoked; and what administrators did in others' names.

A key is ``lsk_``, twelve hexadecimal digits by which it is looked up and recognised, and 256 random bits. Of these only
a keyed digest is kept (HMAC-SHA-256 with a secret of the home): random bits need no slow hash, and who can write the
database, but not read the home, cannot make up a key.
"""

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, bindparam, insert, select, update

from studio.core.errors import InputError, LoginError, NotFoundError, Problem, ResourceError
from studio.core.keys import KEY_PREFIX, ApiKey, Quota, Scope
from studio.core.private import make_home
from studio.core.server_token import kept_secret
from studio.core.settings import Settings
from studio.jobs import request
from studio.jobs.database import Database
from studio.jobs.schema import ACCESSES, KEYS
from studio.jobs.store import open_database

PEPPER_FILE = "keys-secret"
"""In the home: what keys are digested with. Without it all keys are void."""

UNKNOWN = "this key opens nothing here; see that you copied all of it."

_KEY = re.compile(rf"(?P<id>{KEY_PREFIX}[0-9a-f]{{12}})_(?P<secret>[A-Za-z0-9_-]{{43}})")
_COOKIE = re.compile(rf"(?P<id>{KEY_PREFIX}[0-9a-f]{{12}})\.(?P<digest>[0-9a-f]{{64}})")
_DAY_S = 86400.0


class Keys:
    """All keys of one installation.

    Args:
        database: where they are.
        pepper: what their secrets are digested with.
    """

    def __init__(self, database: Database, pepper: str) -> None:
        self._database = database
        self._pepper = pepper.encode()
        self._find = select(KEYS, database.now_s.label("now_s")).where(KEYS.c.id == bindparam("key_id"))

    def create(
        self,
        *,
        owner: str,
        name: str = "",
        scopes: Sequence[Scope],
        days: float | None = None,
        quota: Mapping[str, Any] | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key.

        Args:
            owner: whose jobs it opens.
            name: what its owner calls it.
            scopes: what it may do.
            days: so long it opens anything; None is for ever.
            quota: limits of its own.

        Returns:
            The key, and the text that opens: nobody can be told that again.

        Raises:
            InputError: no such owner can be, the days are none, or unknown limits; all problems at once.
        """
        problems: list[Problem] = []
        for check in (lambda: request.require_names(owner=owner, key=name or None), lambda: Quota.parse(quota or {})):
            try:
                check()
            except InputError as error:
                problems += error.problems
        if days is not None and not 0 < days <= 36500:
            problems.append(Problem("days", f"are {days:g}", "give more than 0 and at most 36500", "out_of_range"))
        if problems:
            raise InputError.of(problems)
        key_id, secret = KEY_PREFIX + secrets.token_hex(6), secrets.token_urlsafe(32)
        until: ColumnElement[float] | None = None if days is None else self._database.now_s + days * _DAY_S
        limits = Quota.parse(quota or {}).model_dump(mode="json", exclude_unset=True)
        row = {"id": key_id, "owner": owner, "name": name, "scopes": ",".join(scopes), "quota": json.dumps(limits)}
        with self._database.write() as db:
            hashed = self._hash(key_id, secret)
            db.execute(insert(KEYS).values(**row, hash=hashed, created_s=self._database.now_s, expires_s=until))
            return _key_of(db.execute(self._find, {"key_id": key_id}).mappings().one()), f"{key_id}_{secret}"

    def of(self, owner: str | None = None) -> list[ApiKey]:
        """Return the keys of an owner, or of all, the oldest first."""
        query = select(KEYS).order_by(KEYS.c.created_s, KEYS.c.id)
        if owner is not None:
            query = query.where(KEYS.c.owner == owner)
        with self._database.read() as db:
            return [_key_of(row) for row in db.execute(query).mappings()]

    def revoke(self, key_id: str) -> ApiKey:
        """Let a key open nothing from now on; one that is revoked stays so. Raises NotFoundError."""
        with self._database.write() as db:
            ours = KEYS.c.id == key_id
            db.execute(update(KEYS).where(ours, KEYS.c.revoked_s.is_(None)).values(revoked_s=self._database.now_s))
            row = db.execute(self._find, {"key_id": key_id}).mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"there is no key {key_id!r}; `python -m studio keys list` names them.")
        return _key_of(row)

    def by_text(self, text: str) -> ApiKey:
        """Return the key that a program has sent; raises LoginError if it opens nothing, and says why."""
        match = _KEY.fullmatch(text)
        row = self._row(match["id"]) if match else None
        if (
            match is None
            or row is None
            or not hmac.compare_digest(row["hash"], self._hash(match["id"], match["secret"]))
        ):
            raise LoginError(UNKNOWN)
        return self._live(row)

    def by_cookie(self, value: str) -> ApiKey:
        """Return the key that a browser was signed in with; raises as ``by_text``."""
        match = _COOKIE.fullmatch(value)
        row = self._row(match["id"]) if match else None
        if match is None or row is None or not hmac.compare_digest(match["digest"], self._cookie_digest(row)):
            raise LoginError(UNKNOWN)
        return self._live(row)

    def cookie_of(self, key: ApiKey) -> str:
        """Return what a browser keeps instead of the key: it signs in, but is not the key."""
        row = self._row(key.id)
        if row is None:
            raise LoginError(UNKNOWN)
        return f"{key.id}.{self._cookie_digest(row)}"

    def require_live(self, key_id: str) -> None:
        """Look again whether a key still opens anything; raises LoginError."""
        row = self._row(key_id)
        if row is None:
            raise LoginError(UNKNOWN)
        self._live(row)

    def note_access(self, key: ApiKey, owner: str, method: str, path: str) -> None:
        """Write down, for good, that an administrator asks something in the name of another owner."""
        told = {"key": key.id, "owner": owner, "method": method, "path": path[:500]}
        with self._database.write() as db:
            db.execute(insert(ACCESSES).values(at_s=self._database.now_s, **told))

    def accesses(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return what administrators asked in the name of others, the newest first."""
        with self._database.read() as db:
            rows = db.execute(select(ACCESSES).order_by(ACCESSES.c.number.desc()).limit(limit)).mappings()
            return [dict(row) for row in rows]

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        self._database.close()

    def _hash(self, key_id: str, secret: str) -> str:
        return hmac.new(self._pepper, f"key {key_id} {secret}".encode(), hashlib.sha256).hexdigest()

    def _cookie_digest(self, row: RowMapping) -> str:
        return hmac.new(self._pepper, f"cookie {row['id']} {row['hash']}".encode(), hashlib.sha256).hexdigest()

    def _row(self, key_id: str) -> RowMapping | None:
        with self._database.read() as db:
            return db.execute(self._find, {"key_id": key_id}).mappings().one_or_none()

    def _live(self, row: RowMapping) -> ApiKey:
        if row["revoked_s"] is not None:
            raise LoginError("this key is revoked; ask for another one.")
        if row["expires_s"] is not None and row["expires_s"] <= row["now_s"]:
            raise LoginError("this key has expired; ask for another one.")
        today = time.strftime("%Y-%m-%d", time.gmtime(row["now_s"]))
        if row["last_used_day"] != today:  # one write a day
            with self._database.write() as db:
                db.execute(update(KEYS).where(KEYS.c.id == row["id"]).values(last_used_day=today))
        return _key_of(row)


def open_keys(settings: Settings) -> Keys:
    """Return the keys of an installation.

    Raises:
        ResourceError: the home cannot be used. InputError, MissingExtraError: the database's address cannot be used.
    """
    home = settings.home.expanduser().absolute()
    try:
        make_home(home)
        pepper = kept_secret(home, PEPPER_FILE)
    except OSError as error:
        raise ResourceError(
            f"the folder {home} cannot hold the secret of the keys ({error}); set STUDIO_HOME to another one."
        ) from error
    return Keys(open_database(settings, Path(home)), pepper)


def _key_of(row: RowMapping) -> ApiKey:
    kept = {name: row[name] for name in ("id", "owner", "name", "created_s", "expires_s", "revoked_s", "last_used_day")}
    return ApiKey(**kept, scopes=tuple(row["scopes"].split(",")), quota=json.loads(row["quota"]))
