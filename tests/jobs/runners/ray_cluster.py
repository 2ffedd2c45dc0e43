"""A Ray cluster of fake GPUs on this machine; a program of the tests, told line by line what to do with it.

It prints the cluster's address. ``add NAME`` adds a node with one GPU, ``kill NAME`` kills its raylet with SIGKILL,
``head`` the control service of the head, ``restart`` begins the cluster anew at its address; each answers ``done``.
Everything ends with standard input.
"""

import os
import socket
import sys
from typing import Any

from ray.cluster_utils import Cluster

STORE = {"object_store_memory": 150_000_000}


def head(port: int) -> Cluster:
    arguments = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "gcs_server_port": port, **STORE}
    return Cluster(initialize_head=True, head_node_args=arguments)


def main() -> None:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster = head(port)
    nodes: dict[str, Any] = {}
    print(cluster.address, file=channel, flush=True)
    try:
        for line in sys.stdin:
            do, *names = line.split()
            if do == "add":
                nodes[names[0]] = cluster.add_node(num_cpus=1, num_gpus=1, **STORE)
            elif do == "kill":
                nodes.pop(names[0]).kill_raylet()
            elif do == "head":
                cluster.head_node.kill_gcs_server()
            elif do == "restart":
                cluster.shutdown()
                nodes.clear()
                cluster = head(port)
            print("done", file=channel, flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
