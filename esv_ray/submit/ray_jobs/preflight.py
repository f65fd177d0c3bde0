"""Check a cluster before a job is run on it.

``python -m esv_ray.submit.ray_jobs.preflight`` runs as a Ray job of its own.

It finds what would stop the job (other versions, storage that a node cannot reach, a request that is wrong) while
nobody has waited for it yet, puts the spec beside the output, and tells one line of JSON on standard output.
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
from esv_ray.errors import DataError, EsvError, SpecError, one_line
from esv_ray.job.environment import SUBMISSION
from esv_ray.output.layout import SUBMISSIONS
from esv_ray.spec import JobSpec, load_spec
from esv_ray.spec_yaml import read_plain, write_plain

MARK = "ESV_PREFLIGHT "
SPEC, PARTITIONS = "ESV_SPEC", "ESV_PARTITIONS"
_MOST_NODES = 64  # that are asked; a cluster's nodes are mostly alike
_NODE_PATIENCE_S = 90.0
_MOST_PACKED = 100_000  # bytes; Linux gives a variable 128 KiB


def versions() -> dict[str, str]:
    """Of what must be the same wherever a job runs."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("esv-ray", "ray", "torch")}}


def spec_place(output: str, submission: str) -> str:
    """Where the spec of a submission lies, beside the tables."""
    return storage.join(output, SUBMISSIONS, f"{submission}.yaml")


def spec_text(spec: JobSpec) -> str:
    """A spec as YAML that `load_spec` reads."""
    return write_plain(spec.model_dump(mode="json"))


def packed(spec: JobSpec) -> str:
    """A spec for `main`'s environment, in whose values Ray would replace ``$NAME``.

    Raises:
        SpecError: it is too long for that.
    """
    text = base64.b64encode(zlib.compress(spec_text(spec).encode())).decode()
    if len(text) > _MOST_PACKED:
        raise SpecError(
            f"the spec takes {len(text)} bytes where a variable of the environment holds {_MOST_PACKED}; give shorter "
            "lists (classes, frames)"
        )
    return text


def main() -> None:
    """Look at the cluster that this runs on, and tell."""
    found: dict[str, Any] = {"versions": versions(), "problem": None, "nodes": []}
    try:
        spec = load_spec(read_plain(zlib.decompress(base64.b64decode(os.environ[SPEC]))))
        file = _check_head(spec, partitions=PARTITIONS in os.environ)
        found["nodes"] = _ask_nodes(spec, file)
        if not list(_of_nodes(found["nodes"], found["versions"])):
            place = spec_place(spec.output, os.environ[SUBMISSION])
            storage.replace(place, spec_text(spec).encode(), "store the spec")
    except EsvError as error:
        found["problem"] = one_line(error)
    except Exception as error:  # of another version's spec, say: whatever it is, it is an answer
        found["problem"] = f"the check failed: {one_line(error)}"
    print(MARK + json.dumps(found), flush=True)
    sys.exit(0)


def _check_head(spec: JobSpec, *, partitions: bool) -> str | None:
    """That the job could start here; one of its files. None: it has none yet, or nobody has looked for one.

    Raises:
        EsvError: it could not.
    """
    from esv_ray.attribution.partitions import check_partitions
    from esv_ray.attribution.planning import check_job

    if partitions:
        check_partitions(spec)
        return None
    return check_job(spec).manifest.files[0].url


def _ask_nodes(spec: JobSpec, file: str | None) -> list[dict[str, Any]]:
    """Every node (of very many, some): its versions, and what it cannot do."""
    from esv_ray.job.on_ray.runtime import ray_runtime

    with ray_runtime(spec.cluster, spec.compute.threads):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in ray.nodes() if node["Alive"]][:_MOST_NODES]  # type: ignore[no-untyped-call]
        ask = ray.remote(node_report)
        asked = {}
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[ask.options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote(spec, file)] = node
        done, late = ray.wait(list(asked), num_returns=len(asked), timeout=_NODE_PATIENCE_S)
        told = [_answer(asked[ref], ray.get, ref) for ref in done]
        return told + [_told_of(asked[ref], {}, f"no answer in {_NODE_PATIENCE_S:g} s") for ref in late]


def node_report(spec: JobSpec, file: str | None) -> dict[str, Any]:
    """What one node says: its versions, and why it cannot reach the storage, if so."""
    try:
        storage.read_bytes(storage.join(spec.model, "model.json"), "read the model", most=2**24)
        if file is None:
            storage.list_folder(spec.features, "list the partitions")
        elif not storage.exists(file):
            raise DataError(
                f"{file}: expected a file of the features, found none here; is the place shared by all nodes?"
            )
    except EsvError as error:
        return {"versions": versions(), "problem": one_line(error)}
    return {"versions": versions(), "problem": None}


def _answer(node: Mapping[str, Any], get: Any, ref: Any) -> dict[str, Any]:
    try:
        said = get(ref)
    except Exception as error:  # whatever a node's Python raises: no esv_ray there, another Ray, a dead node
        return _told_of(node, {}, one_line(error))
    return _told_of(node, said["versions"], said["problem"])


def _told_of(node: Mapping[str, Any], its: Mapping[str, str], problem: str | None) -> dict[str, Any]:
    return {
        "node": str(node.get("NodeManagerAddress", "")),
        "resources": {key: node["Resources"].get(key, 0) for key in ("CPU", "GPU")},
        "versions": dict(its),
        "problem": problem,
    }


def objections(found: Mapping[str, Any], here: Mapping[str, str]) -> Iterator[str]:
    """Why a job should not run on a cluster that told this of itself, one line each.

    Args:
        found: what `main` told.
        here: `versions` of the machine that submits.
    """
    there = found["versions"]
    if there["esv-ray"] != here["esv-ray"]:
        yield (
            f"version mismatch: the cluster has esv-ray {there['esv-ray']}, this machine {here['esv-ray']}; use the "
            "image of this version, or submit with that one"
        )
    if found["problem"]:
        yield f"on the cluster: {found['problem']}"
    yield from _of_nodes(found["nodes"], there)


def _of_nodes(nodes: Sequence[Mapping[str, Any]], head: Mapping[str, str]) -> Iterator[str]:
    for node in nodes:
        if node["problem"]:
            yield f"on node {node['node']}: {node['problem']}"
            continue
        other = [
            f"{name} {its} (the head has {head[name]})" for name, its in node["versions"].items() if its != head[name]
        ]
        if other:
            yield f"version mismatch: node {node['node']} has {', '.join(other)}; give all nodes one image"


if __name__ == "__main__":
    main()
