"""The authors' released checkpoints (willprice/play-fair) as model bundles.

Only tensors are ever unpickled (``weights_only=True``). An MLP's keys are ``model.<i>.weight/bias`` with i counting the
places of [ReLU,] dropout, linear, [batch norm,] ReLU, ..., linear; a TSN's are ``classifier.weight/bias``; a joint
multi-scale checkpoint holds all heads under ``single_scale_models.<s - 1>.model.<i>``.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from esv_ray import storage
from esv_ray.core.game import Average
from esv_ray.core.heads import MlpHead
from esv_ray.errors import ModelError
from esv_ray.machine import host_memory
from esv_ray.models.bundle import save_average, save_heads
from esv_ray.models.class_tables import read_classes, read_prior
from esv_ray.models.weights import check_weights, head_from_state

_NORM_EPS = 1e-5  # torch's default, which the authors use
_JOINT = re.compile(r"single_scale_models\.(\d+)\.(model\.\d+\..+)")
_NAMED_SCALE = re.compile(r", scale (\d+)$|_(\d+)_frames(?:\.\w+)*$")
_PLACE = re.compile(r"model\.(\d+)\.(\w+)")


def import_play_fair(
    checkpoints: Sequence[str], *, prior: str, out: str, classes: str | None = None, input_relu: bool = True
) -> str:
    """Write a bundle from the authors' checkpoints.

    Args:
        checkpoints: locations: one TSN, one joint multi-scale checkpoint, or single-scale MLPs of scales 1..n_max in
            any order.
        prior: location of the class prior's CSV (class,prior).
        out: folder of the bundle.
        classes: location of the class names' CSV (name,id), or None.
        input_relu: of a TSN, whose checkpoint does not tell (the authors' have it); an MLP's layers do tell.

    Returns:
        One line that says what was written.

    Raises:
        ModelError: a checkpoint is no such thing, or scales are missing; says which.
    """
    states = {url: _state(url) for url in checkpoints}
    if not states:
        raise ModelError("expected at least one checkpoint, got none")
    prior_values = read_prior(prior)
    names = None if classes is None else read_classes(classes, len(prior_values))
    (url, state), *others = states.items()
    if "classifier.weight" in state:
        if others:
            raise ModelError(f"{url} is a TSN, which is a model by itself; got {len(states)} checkpoints")
        average = _average(url, state, len(prior_values), input_relu)
        save_average(out, average, prior_values, classes=names)
        return f"TSN, D = {average.weight.shape[1]}, C = {len(prior_values)}"
    heads = _heads(states, len(prior_values))
    save_heads(out, heads, prior_values, classes=names)
    return f"multi-scale model, n_max = {max(heads)}, D = {heads[1].feature_dim}, C = {len(prior_values)}"


def _state(url: str) -> dict[str, Tensor]:
    """The state dict of a checkpoint; nothing but tensors and plain values is unpickled."""
    data = storage.read_bytes(url, "read the checkpoint", most=host_memory() // 2)
    _check_archive(url, data)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{url}: expected a torch checkpoint of tensors only; other objects are not unpickled, since they could "
            f"run code ({' '.join(str(error).split())[:120]}); save its state dict alone"
        ) from None
    except Exception as error:  # a broken pickle makes the unpickler raise anything
        raise ModelError(f"{url}: expected a torch checkpoint: {' '.join(str(error).split())[:200]}") from None
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f'{url}: expected a state dict under "model" or "state_dict", got no tensors')
    state = {str(key).removeprefix("module."): value for key, value in content.items() if isinstance(value, Tensor)}
    for name, value in state.items():
        if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu" or value.is_nested:
            raise ModelError(f"{url}: {name:.100}: expected a dense tensor, got another kind")
        if value.numel() * value.element_size() > len(data):  # one number may be shown as a tensor of any size
            raise ModelError(
                f"{url}: {name:.100}: expected numbers that the file holds, got a view {tuple(value.shape)}"
            )
    return state


def _check_archive(url: str, data: bytes) -> None:
    """Refuse an archive whose parts are larger than itself: torch packs nothing."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sizes = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):  # the format before archives, or none
        return
    if sizes > len(data):
        raise ModelError(f"{url}: expected a torch checkpoint, got an archive that unpacks to {sizes} bytes")


def _average(url: str, state: Mapping[str, Tensor], n_classes: int, input_relu: bool) -> Average:
    weight, bias = state["classifier.weight"].float(), state.get("classifier.bias")
    if weight.ndim != 2 or bias is None or len(weight) != n_classes or bias.shape != weight.shape[:1]:
        raise ModelError(
            f"{url}: expected classifier.weight ({n_classes}, D) and classifier.bias ({n_classes},), the prior having "
            f"{n_classes} classes; got weight {tuple(weight.shape)}"
        )
    try:
        check_weights({"classifier.weight": weight, "classifier.bias": bias.float()})
    except ModelError as error:
        raise ModelError(f"{url}: {error}") from None
    return Average(weight, bias.float(), input_relu=input_relu)


def _heads(states: Mapping[str, Mapping[str, Tensor]], n_classes: int) -> dict[int, MlpHead]:
    """Heads by scale, the scale told by the number of inputs: s * D."""
    parts: list[tuple[str, dict[str, Tensor]]] = []
    for url, state in states.items():
        joint: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            found = _JOINT.fullmatch(key)
            if found:
                joint.setdefault(found[1], {})[found[2]] = tensor
        stray = sorted(set(state) - {key for key in state if _JOINT.fullmatch(key)})
        if joint and stray:
            raise ModelError(f"{url}: expected single_scale_models.<s - 1>.model.<i>... alone, got {stray[0]!r} too")
        parts += [(f"{url}, scale {int(index) + 1}", part) for index, part in joint.items()]
        if not joint:
            parts.append((url, dict(state)))
    layers = {where: _mlp(where, state) for where, state in parts}
    inputs = {where: state["linears.0.weight"].shape[1] for where, (state, _) in layers.items()}
    feature_dim = min(inputs.values())
    if sorted(inputs.values()) != [s * feature_dim for s in range(1, len(inputs) + 1)]:
        raise ModelError(
            "expected single-scale checkpoints of every scale 1..n_max, with D, 2 D, 3 D, ... inputs; got "
            + ", ".join(f"{where}: {count} inputs" for where, count in inputs.items())
        )
    heads = {}
    for where, (state, relu) in layers.items():
        scale = inputs[where] // feature_dim
        named = _NAMED_SCALE.search(where)
        # Widths alone cannot tell scales 2 and 4 of D from scales 1 and 2 of 2 D; the authors' names can.
        if named and int(named[1] or named[2]) != scale:
            raise ModelError(
                f"{where}: by its name a head of scale {named[1] or named[2]}, by its {inputs[where]} inputs one of "
                f"scale {scale} (D = {feature_dim}, the fewest inputs given); give all scales 1..n_max"
            )
        try:
            heads[scale] = head_from_state(
                state,
                scale=scale,
                feature_dim=feature_dim,
                n_classes=n_classes,
                input_relu=relu,
                norm_eps=_NORM_EPS,
            )
        except ModelError as error:
            raise ModelError(f"{where}: {error} (the prior has {n_classes} classes)") from None
    if len({(head.input_relu, head.norms is None) for head in heads.values()}) != 1:
        raise ModelError("expected heads of one kind, got some with and some without input ReLU or batch norm")
    return dict(sorted(heads.items()))


def _mlp(where: str, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The authors' places as our names, and whether a ReLU stands first (the first linear is at place 2, not 1)."""
    places: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        found = _PLACE.fullmatch(key)
        if not found:
            raise ModelError(f"{where}: expected keys model.<i>.weight/bias, or those of a TSN; got {key!r}")
        places.setdefault(int(found[1]), {})[found[2]] = tensor
    renamed: dict[str, Tensor] = {}
    linears = norms = 0
    for _, tensors in sorted(places.items()):
        norm = "running_mean" in tensors
        prefix = f"norms.{norms}" if norm else f"linears.{linears}"
        linears, norms = (linears, norms + 1) if norm else (linears + 1, norms)
        renamed.update({f"{prefix}.{name}": tensor for name, tensor in tensors.items()})
    weights = {key: tensor for key, tensor in renamed.items() if re.fullmatch(r"linears\.\d+\.weight", key)}
    bad = [key for key, tensor in weights.items() if tensor.ndim != 2 or 0 in tensor.shape]
    if bad:
        raise ModelError(f"{where}: expected weights (outputs, inputs), got shape {tuple(renamed[bad[0]].shape)}")
    if "linears.0.weight" not in renamed or min(places) not in (1, 2):
        raise ModelError(f"{where}: expected a linear layer at place 1 or 2, got places {sorted(places)}")
    return renamed, min(places) == 2
