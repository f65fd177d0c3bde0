"""A Ray cluster of several nodes on this machine, in a process of its own: ``python -m tests.cluster.nodes``.

Ray reads its environment once a process; the tests' process belongs to the runtime that jobs start. This one tells the
address and the raylets in one line of JSON, removes a node for every line it reads, and ends with its input.
"""

from __future__ import annotations

import json
import sys

from ray.cluster_utils import Cluster

# Whoever does not answer is declared dead within seconds rather than a minute.
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}


def main() -> None:
    """A head without cores and two nodes of one core."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": HEALTH}
    )
    try:
        nodes = [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
        cluster.wait_for_nodes(timeout=60)
        raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
        print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
        for _ in sys.stdin:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            print("removed", flush=True)
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
