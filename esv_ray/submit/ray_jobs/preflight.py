"""Check a cluster before a job runs on it.

``python -m esv_ray.submit.ray_jobs.preflight`` runs on the cluster as a Ray job of its own. It finds what would stop
the job (other versions, storage that a node cannot reach, an invalid request) while the user still waits at the
terminal, stores the spec beside the output, and prints one line of JSON.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from esv_ray import storage
from esv_ray.errors import EsvError, SpecError, one_line
from esv_ray.job.environment import SUBMISSION
from esv_ray.output.layout import SUBMISSIONS
from esv_ray.spec_kinds import WorkSpec, load_work
from esv_ray.spec_yaml import read_plain
from esv_ray.submit.ray_jobs.checks import Needed, check_plan, check_reached
from esv_ray.submit.submission import spec_text

MARK = "ESV_PREFLIGHT "
SPEC, PARTITIONS = "ESV_SPEC", "ESV_PARTITIONS"
_MOST_NODES = 64  # that are checked; the nodes of a large cluster are mostly alike
_NODE_TIMEOUT_S = 90.0
_MOST_PACKED = 100_000  # bytes; Linux allows 128 KiB for a variable


def versions() -> dict[str, str]:
    """Return the versions that must be the same wherever a job runs."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("esv-ray", "ray", "torch")}}


def spec_location(output: str, submission: str) -> str:
    """Return where the spec of a submission is stored, beside the tables."""
    return storage.join(output, SUBMISSIONS, f"{submission}.yaml")


def packed(spec: WorkSpec) -> str:
    """Return a spec as a text for `main`'s environment, in whose values Ray would replace ``$NAME``.

    Raises:
        SpecError: it is too long.
    """
    text = base64.b64encode(zlib.compress(spec_text(spec).encode())).decode()
    if len(text) > _MOST_PACKED:
        raise SpecError(
            f"the spec takes {len(text)} bytes, but an environment variable holds at most {_MOST_PACKED}; give shorter "
            "lists (classes, frames)"
        )
    return text


def main() -> None:
    """Check the cluster that this runs on, and print a report."""
    report: dict[str, Any] = {"versions": versions(), "problem": None, "nodes": []}
    try:
        spec = load_work(read_plain(zlib.decompress(base64.b64decode(os.environ[SPEC]))))
        needed = check_plan(spec, partitions=PARTITIONS in os.environ)
        report["nodes"] = _check_nodes(spec, needed)
        if not list(_node_objections(report["nodes"], report["versions"])):
            location = spec_location(spec.output, os.environ[SUBMISSION])
            storage.replace(location, spec_text(spec).encode(), "store the spec")
    except EsvError as error:
        report["problem"] = one_line(error)
    except Exception as error:  # for example of another version's spec; the submitter must get a report in any case
        report["problem"] = f"the check failed: {one_line(error)}"
    print(MARK + json.dumps(report), flush=True)
    sys.exit(0)


def _check_nodes(spec: WorkSpec, needed: Sequence[Needed]) -> list[dict[str, Any]]:
    """Return a report of every node, or of some if there are very many: its versions, and its problem if it has one."""
    from esv_ray.job.on_ray.runtime import ray_runtime

    with ray_runtime(spec.cluster, spec.threads):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in ray.nodes() if node["Alive"]][:_MOST_NODES]  # type: ignore[no-untyped-call]
        check = ray.remote(node_report)
        pending = {}
        for node in nodes:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = check.options(num_cpus=0, scheduling_strategy=strategy, max_retries=0)
            pending[task.remote(needed)] = node
        done, late = ray.wait(list(pending), num_returns=len(pending), timeout=_NODE_TIMEOUT_S)
        reports = [_answer(pending[ref], ray.get, ref) for ref in done]
        return reports + [_with_node(pending[ref], {}, f"no answer in {_NODE_TIMEOUT_S:g} s") for ref in late]


def node_report(needed: Sequence[Needed]) -> dict[str, Any]:
    """Return this node's versions, and which of some locations it cannot reach."""
    try:
        check_reached(needed)
    except EsvError as error:
        return {"versions": versions(), "problem": one_line(error)}
    return {"versions": versions(), "problem": None}


def _answer(node: Mapping[str, Any], get: Any, ref: Any) -> dict[str, Any]:
    try:
        answer = get(ref)
    except Exception as error:  # whatever a node's Python raises: it has no esv_ray or another Ray, or it has died
        return _with_node(node, {}, one_line(error))
    return _with_node(node, answer["versions"], answer["problem"])


def _with_node(node: Mapping[str, Any], node_versions: Mapping[str, str], problem: str | None) -> dict[str, Any]:
    return {
        "node": str(node.get("NodeManagerAddress", "")),
        "resources": {key: node["Resources"].get(key, 0) for key in ("CPU", "GPU")},
        "versions": dict(node_versions),
        "problem": problem,
    }


def objections(report: Mapping[str, Any], local: Mapping[str, str]) -> Iterator[str]:
    """Yield why a job should not run on a cluster, one line each.

    Args:
        report: of `main`.
        local: `versions` of the machine that submits.
    """
    cluster = report["versions"]
    if cluster["esv-ray"] != local["esv-ray"]:
        yield (
            f"version mismatch: the cluster has esv-ray {cluster['esv-ray']}, this machine {local['esv-ray']}; use the "
            "image of this version, or submit with that one"
        )
    if report["problem"]:
        yield f"on the cluster: {report['problem']}"
    yield from _node_objections(report["nodes"], cluster)


def _node_objections(nodes: Sequence[Mapping[str, Any]], head: Mapping[str, str]) -> Iterator[str]:
    for node in nodes:
        if node["problem"]:
            yield f"on node {node['node']}: {node['problem']}"
            continue
        differ = [
            f"{name} {value} (the head has {head[name]})"
            for name, value in node["versions"].items()
            if value != head[name]
        ]
        if differ:
            yield f"version mismatch: node {node['node']} has {', '.join(differ)}; give all nodes one image"


if __name__ == "__main__":
    main()
