"""A Ray cluster of several nodes on this machine, in a process of its own: ``python -m tests.support.nodes NUMBER``.

Ray reads its environment once a process; the tests' process belongs to the runtime that jobs start. This one tells the
address and the raylets in one line of JSON, adds (`add`) or removes (`remove`) a node or waits until all nodes are
there (`settle`) for every line it reads, tells again, and ends with its input.
"""

from __future__ import annotations

import json
import sys

from ray.cluster_utils import Cluster

# Whoever does not answer is declared dead within seconds rather than a minute.
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,  # a busy machine is not a dead one
    "health_check_failure_threshold": 4,
}


def main(number: int) -> None:
    """A head without cores and nodes of one core."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": HEALTH}
    )
    nodes = []

    def add() -> None:
        nodes.append(cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20))

    def tell() -> None:
        raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
        print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)

    try:
        for _ in range(number):
            add()
        cluster.wait_for_nodes(timeout=60)
        tell()
        for line in sys.stdin:
            if line.strip() == "add":
                add()
            elif line.strip() == "settle":
                cluster.wait_for_nodes(timeout=60)
            else:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
            tell()
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(int(sys.argv[1]))
