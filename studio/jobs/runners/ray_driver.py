"""The process that speaks with a Ray cluster for the server: ``python -m studio.jobs.runners.ray_driver``.

It is a process of its own because Ray ends a process that has lost its cluster, and because of what importing Ray
costs. A request is one line of JSON on standard input, its answer one line on standard output. Actors are detached:
they outlive it, and the next one finds them by their names.
"""

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from studio.jobs.runners.code import code_archive

NAMESPACE = "likeness-studio"
"""Of the actors' names in the cluster."""
_LOOK_S = 1.0
_END_S = 20.0

Answer = dict[str, Any]


class _Cluster:
    """A connection to the cluster that ``RAY_ADDRESS`` names, or that runs on this machine."""

    def __init__(self) -> None:
        # Without this, an operator's terminal would be asked whether to send statistics.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        from studio.jobs.runners import ray_node

        self._ray = ray
        ray.init(
            address=os.environ.get("RAY_ADDRESS") or "auto",
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        ray.cloudpickle.register_pickle_by_value(ray_node)
        self._actor: Any = ray.remote(num_gpus=1, num_cpus=1, max_restarts=0, max_task_retries=0)(ray_node.AgentActor)
        self._asked: dict[str, Any] = {}
        """A question that each actor has not answered yet, by its name."""
        archive, self._version = code_archive()
        self._code = ray.put(archive)

    def launch(self, name: str, ticket: str, python: str) -> Answer:
        """Make the actor of an attempt, once; it waits in the cluster until a GPU is free."""
        get, code = self._ray.get, [self._code]  # in a list, it is fetched only by a node that lacks it
        options = {"name": name, "lifetime": "detached"}
        try:
            actor = self._actor.options(**options).remote(name, self._version, lambda: get(code[0]), ticket, python)
        except ValueError:  # it is there already
            actor = self._ray.get_actor(name)
        self._asked[name] = actor.look.remote()
        return {"done": True}

    def look(self, name: str) -> Answer:
        """Say how an attempt's actor stands."""
        try:
            if name not in self._asked:
                self._asked[name] = self._ray.get_actor(name).look.remote()
            ready, _ = self._ray.wait([self._asked[name]], timeout=_LOOK_S)
            if not ready:
                return {"state": "silent"}
            end = self._ray.get(self._asked.pop(name))
            return {"state": "runs"} if end is None else {"state": "ended", "end": end}
        except ValueError:
            return {"state": "gone", "why": ""}
        except self._ray.exceptions.ActorUnavailableError as error:  # it may answer again, or is gone for good
            self._asked.pop(name, None)
            return {"state": "unknown", "why": str(error)}
        except self._ray.exceptions.RayActorError as error:
            self._asked.pop(name, None)
            return {"state": "gone", "why": str(error)}

    def kill(self, name: str) -> Answer:
        """End an attempt's actor with its agent, wherever it stands."""
        try:
            actor = self._ray.get_actor(name)
            if self.look(name)["state"] in ("runs", "ended"):
                self._ray.wait([actor.end.remote()], timeout=_END_S)
            self._ray.kill(actor, no_restart=True)
        except ValueError:
            pass
        self._asked.pop(name, None)
        return {"done": True}


def main() -> int:
    """Say whether the cluster was found, then answer requests until standard input ends."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever Ray prints

    def say(answer: Answer) -> None:
        channel.write(json.dumps(answer) + "\n")
        channel.flush()

    try:
        cluster = _Cluster()
    except ImportError:
        say({"error": "is not installed", "kind": "missing"})
        return 1
    except Exception as error:  # Ray raises many kinds, and all of them end here
        say({"error": _words_of(error)})
        return 1
    say({"ready": True})
    calls: dict[str, Callable[..., Answer]] = {"launch": cluster.launch, "look": cluster.look, "kill": cluster.kill}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            say(calls[request.pop("do")](**request))
        except Exception as error:  # of a cluster that was begun anew at the same address, for example
            say({"error": _words_of(error), "is_over": True})
    return 0


def _words_of(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [repr(error)]
    return lines[0][:500]


if __name__ == "__main__":
    sys.exit(main())
