"""A Ray cluster on this machine that grows from nothing: Ray's autoscaler (v2) over its provider of made-up nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.head import free_port, ray_head

_HEAD = "f" * 51 + "00000"  # the number that the provider gives its head


def _config(address: str, nodes: int) -> dict[str, object]:
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    nothing: dict[str, list[str]] = {f"{name}_commands": [] for name in commands}
    return {
        "cluster_name": "grows",
        "max_workers": nodes,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.03,
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "one-core": {
                "resources": {"CPU": 1, "object_store_memory": 80 * 2**20},
                "node_config": {},
                "min_workers": 0,
                "max_workers": nodes,
            },
        },
        "provider": {
            # `fake_multinode` by its own name wants a file that Ray's wheels do not have.
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": _HEAD,
            "gcs_address": address,
        },
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        **nothing,
    }


@contextmanager
def autoscaled_cluster(folder: Path, nodes: int) -> Iterator[str]:
    """The address of a head without cores; at most so many nodes of one core come when they are asked for."""
    port = free_port()
    config = folder / "autoscaler.json"
    config.write_text(json.dumps(_config(f"127.0.0.1:{port}", nodes)))
    environment = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": _HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD,
    }
    options = ("--num-cpus=0", "--include-dashboard=false", f"--autoscaling-config={config}")
    with ray_head(folder, *options, port=port, environment=environment) as address:
        yield address
