"""Networks of images from folders of Hugging Face: their ESVs are those of the library's own forward passes."""

from __future__ import annotations

import json
import shutil
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from torch import Tensor

from esv_ray.cli import cli
from esv_ray.core.games.modules import PlacedNetwork
from esv_ray.errors import DataError, EsvError, ModelError, SpecError
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.networks import opening
from tests.support.image_tables import image_table
from tests.support.image_tables import images_of as random_images
from tests.support.jobs import run
from tests.support.networks import FRAMES, MEAN, NAMES, SHAPES, SIDE, STD, own_logits, save_network
from tests.support.oracle import Array, Game, esv_by_orders

N = 4
FAMILIES = list(FRAMES)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any, Path]]:
    """Return by family the folder of a network, the network itself, and its bundle."""
    made = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        network = save_network(family, folder)
        bundle = folder.parent / f"{family}-bundle"
        result = imported(folder, bundle)
        assert result.exit_code == 0, result.output
        made[family] = folder, network, bundle
    return made


def imported(folder: Path, bundle: Path) -> Any:
    arguments = ["import", "model", "--from", "huggingface", "--prior", "uniform", "--output", str(bundle)]
    return CliRunner().invoke(cli, [*arguments, str(folder)])


def refusal(folder: Path) -> str:
    """Return the one line in which an import refuses a folder."""
    error = imported(folder, folder.parent / "refused").exception
    assert isinstance(error, EsvError), error
    assert "\n" not in str(error)
    return str(error)


def images_of(family: str, n: int = N, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, *SHAPES[family]), generator=generator, dtype=torch.uint8)


def game_of(family: str, network: Any, images: Tensor, *, logits: bool = False) -> Game:
    def value(x: tuple[int, ...]) -> Array:
        if not x:
            return np.full(len(NAMES), np.log(1 / 3) if logits else 1 / 3)
        scores = own_logits(family, network, images, list(x)).double()
        return np.asarray((scores if logits else scores.softmax(dim=0)).numpy())

    return value


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_exact_esvs_are_those_of_a_forward_pass_of_each_subsequence(networks: Any, family: str) -> None:
    _, network, bundle = networks[family]
    images = images_of(family)
    result = explain(str(bundle), images, estimator="exact")
    expected = esv_by_orders(game_of(family, network, images), N)
    assert np.abs(result.esv.numpy() - expected).max() < 1e-6
    assert np.abs(expected).max() > 0.02  # the classes differ
    assert result.evaluations == 2**N - 1
    whole = own_logits(family, network, images, list(range(N))).softmax(dim=0)
    assert torch.allclose(result.scores, whole, atol=1e-6)
    assert result.classes == tuple(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_sampled_and_logit_esvs_have_the_same_game(networks: Any, family: str) -> None:
    _, network, bundle = networks[family]
    images = images_of(family)
    sampled = explain(str(bundle), images, estimator="adjusted", m=64, video_id="a")
    exact = explain(str(bundle), images, estimator="exact")
    assert np.abs(sampled.esv.numpy() - exact.esv.numpy()).max() < 1e-5  # every subsequence is sampled
    logit = explain(str(bundle), images, estimator="exact", output="logit")
    assert np.abs(logit.esv.numpy() - esv_by_orders(game_of(family, network, images, logits=True), N)).max() < 1e-5


@pytest.mark.slow
def test_logits_of_all_tubelets_are_the_networks_own_to_the_bit(networks: Any) -> None:
    _, network, bundle = networks["videomae"]
    images = images_of("videomae")
    model = load_model(str(bundle))
    own = own_logits("videomae", network, images, [0, 1, 2, 3])
    assert isinstance(model.scorer, PlacedNetwork)
    assert torch.equal(model.scorer.module(images.flatten(1)[None])[0], own)


@pytest.mark.slow
def test_a_shorter_sequence_of_tubelets_is_spread_over_the_places(networks: Any) -> None:
    _, network, bundle = networks["videomae"]
    images = images_of("videomae")
    result = explain(str(bundle), images[:2], estimator="exact")
    whole = torch.zeros_like(images)
    whole[1], whole[3] = images[0], images[1]  # floor((i + 1/2) 4 / 2)
    places = {0: 1, 1: 3}

    def value(x: tuple[int, ...]) -> Array:
        if not x:
            return np.full(3, 1 / 3)
        scores = own_logits("videomae", network, whole, [places[i] for i in x])
        return np.asarray(scores.double().softmax(dim=0).numpy())

    assert np.abs(result.esv.numpy() - esv_by_orders(value, 2)).max() < 1e-6


@pytest.mark.slow
def test_longer_sequences(networks: Any) -> None:
    _, network, bundle = networks["timesformer"]
    images = images_of("timesformer", 5)
    result = explain(str(bundle), images, estimator="exact")
    assert np.abs(result.esv.numpy() - esv_by_orders(game_of("timesformer", network, images), 5)).max() < 1e-6
    with pytest.raises(SpecError, match="takes sequences of at most 4 elements, got n = 5: sample frames"):
        explain(str(networks["videomae"][2]), images_of("videomae", 5))


@pytest.mark.slow
def test_what_an_import_says_and_writes(networks: Any, tmp_path: Path) -> None:
    folder, _, bundle = networks["videomae"]
    manifest = json.loads((bundle / "model.json").read_text())
    assert manifest["kind"] == "transformers"
    assert manifest["element_shape"] == [2, SIDE, SIDE, 3]
    assert manifest["extraction"] == {
        "size": [SIDE, SIDE],
        "short_side": SIDE,
        "color": "RGB",
        "mean": MEAN,
        "std": STD,
    }
    said = imported(folder, tmp_path / "again").output
    assert "logits of the network with the other elements masked" in said
    assert "clips of 2 images of 32 x 32 pixels; at most 4 of a video" in said
    assert "classes  3 names of the files" in said
    # The weights are those of the folder, under its names: a later version of the library may have others.
    given, kept = (
        safetensors.torch.load_file(path) for path in (folder / "model.safetensors", bundle / "weights.safetensors")
    )
    assert given.keys() == kept.keys()


@pytest.mark.slow
def test_the_preparation_is_part_of_the_hash(networks: Any, tmp_path: Path) -> None:
    bundle = shutil.copytree(networks["timesformer"][2], tmp_path / "bundle")
    manifest = json.loads((bundle / "model.json").read_text())
    manifest["extraction"]["mean"] = [0.0, 0.0, 0.0]
    (bundle / "model.json").write_text(json.dumps(manifest))
    one, other = (load_model(str(each)) for each in (networks["timesformer"][2], bundle))
    assert one.digest != other.digest
    images = images_of("timesformer")
    assert not torch.equal(explain(one, images).scores, explain(other, images).scores)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_job_and_its_prior(networks: Any, tmp_path: Path, family: str) -> None:
    """The prior is the mean output over the videos; long ones are sampled to what the network takes."""
    folder, network, _ = networks[family]
    table, bundle, out = (str(tmp_path / name) for name in ("images.parquet", "bundle", "out"))
    pq.write_table(image_table([4, 3, 6], SHAPES[family]), table)
    arguments = [
        "import",
        "model",
        "--from",
        "huggingface",
        "--prior",
        f"model:{table}",
        "--output",
        bundle,
        str(folder),
    ]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    videos = [torch.from_numpy(random_images(length, SHAPES[family], seed)) for seed, length in enumerate([4, 3, 6])]
    if family == "videomae":
        videos[2] = videos[2][[0, 2, 3, 5]]  # floor((i + 1/2) 6 / 4)
        shorter = torch.zeros(4, *SHAPES[family], dtype=torch.uint8)
        shorter[[0, 2, 3]] = videos[1]  # floor((i + 1/2) 4 / 3)
        wholes = [(videos[0], [0, 1, 2, 3]), (shorter, [0, 2, 3]), (videos[2], [0, 1, 2, 3])]
    else:
        wholes = [(video, list(range(len(video)))) for video in videos]
    scores = [own_logits(family, network, video, kept).softmax(dim=0) for video, kept in wholes]
    assert torch.allclose(load_model(bundle).prior.float(), torch.stack(scores).mean(dim=0), atol=1e-5)
    run(table, bundle, out, "frames=4", "short=all", "estimator.kind=exact")
    (found,) = [
        row
        for row in pq.read_table(next((tmp_path / "out" / "videos").glob("*"))).to_pylist()
        if row["video_id"] == "v0"
    ]
    assert np.allclose(found["scores"], scores[0], atol=1e-5)
    with (
        pytest.raises(SpecError, match="takes sequences of at most 4 elements")
        if family == "videomae"
        else nullcontext()
    ):
        run(table, bundle, str(tmp_path / "longer"), "frames=5")


@pytest.mark.slow
def test_parts_of_weights_and_half_precision(networks: Any, tmp_path: Path) -> None:
    folder, network, bundle = networks["timesformer"]
    parts = tmp_path / "parts"
    network.config.num_frames = FRAMES["timesformer"]  # as it was before it was called
    network.half().save_pretrained(parts, max_shard_size="20KB")
    network.float()
    shutil.copy(folder / "preprocessor_config.json", parts)
    assert len(list(parts.glob("model-*.safetensors"))) > 1
    result = imported(parts, tmp_path / "bundle")
    assert result.exit_code == 0, result.output
    images = images_of("timesformer")
    one, other = (explain(str(each), images).esv for each in (bundle, tmp_path / "bundle"))
    assert (one - other).abs().max() < 5e-3


@pytest.mark.slow
def test_nothing_is_fetched(networks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    folder = shutil.copytree(networks["timesformer"][0], tmp_path / "folder")
    # The library would fetch kernels and quantizers that a configuration names.
    config = json.loads((folder / "config.json").read_text())
    hostile = {"attn_implementation": "somebody/kernels", "quantization_config": {"quant_method": "bitsandbytes"}}
    (folder / "config.json").write_text(json.dumps({**config, **hostile}))
    assert imported(folder, tmp_path / "bundle").exit_code == 0
    manifest = json.loads((tmp_path / "bundle" / "model.json").read_text())
    manifest["config"] |= hostile
    (tmp_path / "bundle" / "model.json").write_text(json.dumps(manifest))
    load_model(str(tmp_path / "bundle"))


@pytest.mark.slow
def test_weights_of_other_networks(networks: Any, tmp_path: Path) -> None:
    folder, _, _ = networks["videomae"]
    state = safetensors.torch.load_file(folder / "model.safetensors")
    changes = {
        "missing: classifier.weight": {name: each for name, each in state.items() if name != "classifier.weight"},
        "not in the network: extra": {**state, "extra": torch.zeros(1)},
        r"classifier.weight (3, 16), in the network (3, 32)": {**state, "classifier.weight": torch.zeros(3, 16)},
        "finite in float32": {**state, "classifier.weight": torch.full((3, 32), torch.nan)},
    }
    for number, (expected, content) in enumerate(changes.items()):
        place = shutil.copytree(folder, tmp_path / str(number))
        safetensors.torch.save_file(content, place / "model.safetensors")
        assert expected in refusal(place)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "changes", "expected"),
    [
        ("timesformer", {"attention_type": "space_only"}, "computes logits frame by frame"),
        ("videomae", {"use_mean_pooling": False}, "use_mean_pooling: expected true"),
        ("videomae", {"tubelet_size": 3}, "num_frames: expected a multiple of tubelet_size 3, got 8"),
        ("videomae", {"num_channels": 1}, "num_channels: expected 3, got 1"),
        ("videomae", {"hidden_size": 2**30}, "hidden_size: expected a whole number from 1 to"),
        ("videomae", {"hidden_size": "many"}, "expected that of a VideoMAEForVideoClassification"),
        ("videomae", {"image_size": 4096, "patch_size": 1}, "patches of all frames"),
        (
            "videomae",
            {"num_hidden_layers": 200},
            "expected at least 1,638,400 numbers, as the configuration says, got 66",
        ),
        ("videomae", {"num_attention_heads": 5}, "weights: cannot be loaded"),
        ("videomae", {"hidden_act": "unknown"}, "weights: cannot be loaded"),
        ("videomae", {"id2label": None, "num_labels": "many"}, "not in the network: classifier.bias"),
        ("timesformer", {"image_size": [32, 32]}, "config"),
        ("timesformer", {"image_size": 64}, "size: expected [64, 64], as the network has it, got (32, 32)"),
    ],
)
def test_configurations_that_are_refused(
    networks: Any, tmp_path: Path, family: str, changes: dict[str, Any], expected: str
) -> None:
    folder = shutil.copytree(networks[family][0], tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    assert expected in refusal(folder)


def folder_with(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "network"
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


CONFIG = json.dumps({"model_type": "videomae", "architectures": ["VideoMAEForVideoClassification"]})
PREPARED = json.dumps({"image_mean": 0.5, "image_std": 0.5, "size": {"height": 32, "width": 32}})


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "expected the folder of a network with config.json, got nothing there; nothing is downloaded"),
        ({"README__md": ""}, "got a folder with README.md"),
        ({"config__json": "{"}, "config.json: expected a JSON object"),
        ({"config__json": '{"model_type": "vit"}'}, "expected timesformer or videomae, got 'vit'"),
        (
            {"config__json": '{"model_type": "videomae", "architectures": ["VideoMAEForPreTraining"]}'},
            "it has no classifier",
        ),
        (
            {"config__json": '{"model_type": "videomae", "auto_map": {"AutoModel": "code.Model"}}'},
            "got one with code of its own, which is not run",
        ),
        ({"config__json": CONFIG}, "expected preprocessor_config.json"),
        (
            {"config__json": CONFIG, "preprocessor_config__json": PREPARED},
            "expected weights in model.safetensors, got none",
        ),
        (
            {"config__json": CONFIG, "preprocessor_config__json": PREPARED, "pytorch_model__bin": "x"},
            "got pytorch_model.bin, which is not read, since such a file may run code",
        ),
        (
            {"config__json": CONFIG, "preprocessor_config__json": PREPARED, "model__safetensors": "x"},
            "model.safetensors: ",
        ),
        (
            {
                "config__json": CONFIG,
                "preprocessor_config__json": PREPARED,
                "model__safetensors__index__json": '{"weight_map": {"a": "../a.safetensors"}}',
            },
            "expected the names of safetensors files in this folder",
        ),
        (
            {"config__json": CONFIG, "preprocessor_config__json": '{"rescale_factor": 1}'},
            "rescale_factor: expected 1 / 255, got 1",
        ),
        (
            {"config__json": CONFIG, "preprocessor_config__json": '{"size": 32, "image_mean": 0.5, "image_std": 0}'},
            "expected size, image_mean and image_std of images",
        ),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    assert expected in refusal(folder_with(tmp_path, **files))


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    assert "pip install 'esv-ray[transformers]'" in refusal(folder_with(tmp_path))


def bundle_with(tmp_path: Path, **changes: Any) -> Path:
    """Write a bundle whose model.json is complete but for changes; its weights are of no network."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    manifest = {
        "format": 2,
        "kind": "transformers",
        "feature_dim": 2 * 32 * 32 * 3,
        "element_shape": [2, 32, 32, 3],
        "n_classes": 2,
        "config": {"model_type": "videomae"},
        "weights": "weights.safetensors",
        "extraction": {"size": [32, 32], "mean": [0, 0, 0], "std": [1, 1, 1]},
        **changes,
    }
    (bundle / "model.json").write_text(json.dumps(manifest))
    (bundle / "prior.csv").write_text("class,prior\n0,0.5\n1,0.5\n")
    safetensors.torch.save_file({"a": torch.zeros(1)}, bundle / "weights.safetensors")
    return bundle


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"element_shape": [32, 32, 3]}, r"expected \[H, W, 3\] or \[k, H, W, 3\] of 6144 bytes"),
        ({"element_shape": None}, "needs element_shape and weights"),
        ({"weights": None}, "needs element_shape and weights"),
        ({"config": None}, "config: a key of kind transformers"),
        ({"config": {"model_type": "other"}}, "expected timesformer or videomae, got 'other'"),
        ({"extraction": None}, "extraction.size: Field required"),
        ({"extraction": {"size": [32, 32], "mean": [0, 0, 0], "std": [1, 1, 0]}}, "extraction.std.2: "),
        ({"kind": "multiscale", "config": None}, "element_shape: expected null for the kind multiscale"),
    ],
)
def test_bundles_that_are_refused(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        load_model(str(bundle_with(tmp_path, **changes)))


@pytest.mark.slow
def test_sequences_that_are_refused(networks: Any) -> None:
    bundle = str(networks["timesformer"][2])
    for wrong in (
        torch.zeros(2, 16, 16, 3, dtype=torch.uint8),
        torch.zeros(2, SIDE, SIDE, 3),
        np.zeros((3, 8), np.float32),
    ):
        with pytest.raises(DataError, match=r"takes uint8 images \(n, 32, 32, 3\) with n >= 1, got"):
            explain(bundle, wrong)
