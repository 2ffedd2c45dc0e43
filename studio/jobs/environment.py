"""The environment variables of a job's process."""

import os

from studio.core.settings import Settings

NOT_FOR_OTHERS: dict[str, str | None] = {
    "HF_TOKEN_PATH": os.devnull,
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "STUDIO_CIVITAI_KEY": None,
    "STUDIO_GUEST": "1",
}
"""Variables of a job whose owner is not the machine's: it gets none of the machine's keys and logins."""


def variables_of(settings: Settings) -> dict[str, str]:
    """Return the settings as the variables that a child's own ``Settings()`` reads."""
    # Not the token for the Hub: only a job of the machine's owner gets it, see ``jobs/inherited.py``.
    private = {"hub_token", "remote_server", "remote_token", "backup_url", "database_url", "storage_url", "secrets_key"}
    private |= {"works", "weights_max_bytes"}  # refused without the address that they need
    values = settings.model_dump(mode="json", exclude_none=True, exclude=private)
    if settings.civitai_key:  # dumped as asterisks
        values["civitai_key"] = settings.civitai_key.get_secret_value()
    variables = {f"STUDIO_{name.upper()}": str(value) for name, value in values.items()}
    variables["STUDIO_LOGIN"] = "false"  # nobody logs in to a job, and it lacks what the platform gives for that
    if settings.threads is not None:  # read by torch's thread pool, before any of our code could say it
        variables["OMP_NUM_THREADS"] = str(settings.threads)
    return variables


def rules_of(settings: Settings) -> dict[str, str | None]:
    """Return the operator's rules for what jobs make, as variables; a job on another machine keeps to them, too."""
    rules = {name: getattr(settings, name) for name in ("nudity_pictures", "nudity_photos")}
    if set(rules.values()) == {"off"}:
        return {}
    return {
        f"STUDIO_{name.upper()}": str(value) for name, value in {**rules, "nudity_from": settings.nudity_from}.items()
    }
