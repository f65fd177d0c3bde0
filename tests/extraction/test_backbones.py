"""Backbones: the user's modules, ONNX files; preprocessing; clips; one video's features depend on nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from esv_ray.decoding import Evenly, Every, ShortSide, Stretch, open_decoder
from esv_ray.errors import EsvError, ModelError
from esv_ray.extraction.backbones.modules import ModuleBackbone, digest_of
from esv_ray.extraction.backbones.opening import open_backbone
from esv_ray.extraction.backbones.pooled import COLORS, PooledPixels, amounts
from esv_ray.extraction.backbones.preprocessing import Preprocessing, preprocessing_of
from esv_ray.spec_extract import ExtractSpec, load_extract_spec
from tests.extraction.conftest import Extract
from tests.support.backbones import PREPROCESSING, Convolution

HOME = "tests.support.backbones"
CODE = ("tests",)


def spec_of(backbone: str, *options: str, code: tuple[str, ...] = CODE) -> ExtractSpec:
    return load_extract_spec(None, ["videos=v", "output=o", f"backbone={backbone}", *options], code=code)


def table_of(folder: Path) -> dict[str, np.ndarray]:
    rows = [row for file in sorted((folder / "features").glob("*")) for row in pq.read_table(file).to_pylist()]
    return {row["video_id"]: np.array(row["features"], np.float32) for row in rows}


def test_a_module_of_the_user_gets_prepared_images(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips, f"backbone={HOME}:convolution", "arguments={seed: 3}", "frames=5", code=CODE)
    found = table_of(tmp_path / "table")
    with open_decoder(isolated=False).open(str(clips / "b.mp4")) as video:
        images = np.stack([frame.image for frame in video.frames(Evenly(5), resize=ShortSide(20, (16, 16)))])
    values = torch.from_numpy(images).movedim(-1, 1).float() / 255
    mean, std = (torch.tensor(PREPROCESSING[name]).view(3, 1, 1) for name in ("mean", "std"))
    expected = Convolution(3)((values - mean) / std).detach().numpy()
    np.testing.assert_allclose(found["b"], expected, rtol=1e-5, atol=1e-6)
    assert found["b"].shape == (5, 12)


def test_a_module_that_takes_views_of_its_input(clips: Path, run: Extract, tmp_path: Path) -> None:
    """Images lie with their channels last, unless the module cannot take that."""
    run(clips / "b.mp4", f"backbone={HOME}:views", "frames=3", code=CODE)
    with open_decoder(isolated=False).open(str(clips / "b.mp4")) as video:
        images = np.stack([frame.image for frame in video.frames(Evenly(3), resize=Stretch(16, 16))])
    np.testing.assert_allclose(table_of(tmp_path / "table")["b"], images.mean(axis=(1, 2)) / 255, atol=1e-5)
    assert open_backbone(spec_of(f"{HOME}:views"))._channels_last is False  # type: ignore[attr-defined]
    assert open_backbone(spec_of(f"{HOME}:convolution"))._channels_last is True  # type: ignore[attr-defined]


def test_the_order_of_channels_is_the_backbone_s(clips: Path, run: Extract, tmp_path: Path) -> None:
    common = (f"backbone={HOME}:seen", "frames=2")
    other = "arguments={color: BGR, mean: [0.0, 0.5, 1.0]}"
    run(clips / "b.mp4", *common, f"output={tmp_path / 'rgb'}", code=CODE)
    run(clips / "b.mp4", *common, other, f"output={tmp_path / 'bgr'}", code=CODE)
    rgb, bgr = (table_of(tmp_path / name)["b"].reshape(2, 3, 16, 16) for name in ("rgb", "bgr"))
    np.testing.assert_allclose(bgr, rgb[:, ::-1] - np.array([0.0, 0.5, 1.0])[:, None, None], atol=1e-6)


def test_clips_are_windows_of_frames(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips / "e.mp4", f"backbone={HOME}:motion", "clip=4", "stride=3", "frames=all", "compute.batch=8", code=CODE)
    with open_decoder(isolated=False).open(str(clips / "e.mp4")) as video:
        images = np.stack([frame.image for frame in video.frames(Every(), resize=Stretch(16, 16))])
    means = images.mean(axis=(1, 2)) / 255  # (T, 3)
    starts = range(0, 16 - 4 + 1, 3)
    expected = [means[start : start + 4].T.reshape(-1) for start in starts]
    np.testing.assert_allclose(table_of(tmp_path / "table")["e"], np.stack(expected), atol=1e-5)
    (file,) = (tmp_path / "table" / "features").glob("*")
    assert pq.read_table(file).column("frame_index").to_pylist() == [[start + 2 for start in starts]]


def test_a_video_shorter_than_a_clip_fails(clips: Path, run: Extract, tmp_path: Path) -> None:
    result = run(clips / "b.mp4", f"backbone={HOME}:motion", "clip=9", "frames=all", code=CODE)
    assert result.failed == (("b", "fewer frames than a clip has"),)


def test_features_do_not_depend_on_other_videos(clips: Path, run: Extract, tmp_path: Path) -> None:
    options = (f"backbone={HOME}:convolution", "frames=all", "compute.batch=5")
    run(clips, *options, "compute.decoders=3", f"output={tmp_path / 'all'}", code=CODE)
    together = table_of(tmp_path / "all")
    for name in ("a", "c/a"):
        run(clips / f"{name}.mp4", *options, f"output={tmp_path / 'alone' / name}", code=CODE)
        (alone,) = table_of(tmp_path / "alone" / name).values()
        assert np.array_equal(alone, together[name])


def write_onnx(path: Path, *, size: int | str = 16) -> Convolution:
    """Write the convolution of tests as ONNX."""
    module = Convolution(5)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    nodes = [
        helper.make_node("Conv", ["images", "layers.0.weight", "layers.0.bias"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "layers.3.weight", "layers.3.bias"], ["features"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 12])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return module


def test_an_onnx_file_is_a_backbone(clips: Path, run: Extract, tmp_path: Path) -> None:
    module = write_onnx(tmp_path / "encoder.onnx")
    run(clips / "b.mp4", f"backbone=onnx:{tmp_path / 'encoder.onnx'}", "frames=3")
    with open_decoder(isolated=False).open(str(clips / "b.mp4")) as video:
        images = np.stack([frame.image for frame in video.frames(Evenly(3), resize=ShortSide(18, (16, 16)))])
    values = torch.from_numpy(images).movedim(-1, 1).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    expected = module((values - mean) / std).detach().numpy()
    np.testing.assert_allclose(table_of(tmp_path / "table")["b"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "options", "code", "message"),
    [
        (
            "nope",
            [],
            (),
            r"expected one of pooled, pixels, .*, onnx:FILE, timm:MODEL, .*, torchvision:MODEL, got 'nope'",
        ),
        ("pooled", ["clip=2"], (), "clip: the backbone pooled takes single frames"),
        ("pooled", ["size=102"], (), r"size: expected sides that are multiples of 4, got \(102, 102\)"),
        ("pooled", ["weights=x.pt"], (), "weights: the backbone pooled takes none"),
        (f"{HOME}:convolution", [], (), "expected consent to run code"),
        (f"{HOME}:nothing", [], CODE, "defines no function nothing"),
        (f"{HOME}:Convolution", [], CODE, "expected a function decorated"),
        (f"{HOME}:convolution", ["arguments={depth: 3}"], CODE, "convolution failed; check its arguments"),
        (f"{HOME}:no_module", [], CODE, r"expected \(module, preprocessing\) from .*, got tuple"),
        (f"{HOME}:matrix", [], CODE, r"expected features \(2, D\), got \(2, 3, 16, 16\)"),
        (f"{HOME}:convolution", ["size=20"], CODE, "failed on images"),
        (f"{HOME}:seen", ["arguments={colors: BGR}"], CODE, "expected keys among size, .*got 'colors'"),
        (f"{HOME}:seen", ["arguments={std: [1.0, 0.0, 1.0]}"], CODE, "std: expected numbers above 0"),
        ("onnx:/absent.onnx", [], (), "absent.onnx"),
    ],
)
def test_backbones_that_cannot_be_used(backbone: str, options: list[str], code: tuple[str, ...], message: str) -> None:
    with pytest.raises(EsvError, match=message) as caught:
        open_backbone(spec_of(backbone, *options, code=code))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_onnx_models(tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="expected an ONNX model, got"):
        open_backbone(spec_of(f"onnx:{path}"))
    write_onnx(path)
    with pytest.raises(ModelError, match=r"expected one float32 input \(N, 3, k, H, W\)"):
        open_backbone(spec_of(f"onnx:{path}", "clip=4"))


def test_weights_are_loaded_from_a_file(tmp_path: Path) -> None:
    torch.save(Convolution(9).state_dict(), tmp_path / "weights.pt")
    found = open_backbone(spec_of(f"{HOME}:convolution", f"weights={tmp_path / 'weights.pt'}")).info
    assert found.digest == digest_of(Convolution(9)) != digest_of(Convolution(0))
    torch.save({"layers.0.weight": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="weights: expected the 4 tensors of the module"):
        open_backbone(spec_of(f"{HOME}:convolution", f"weights={tmp_path / 'weights.pt'}"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("224", "expected a mapping"),
        ({}, "size: expected pixels"),
        ({"size": 0}, "size"),
        ({"size": [1, 2, 3]}, "size"),
        ({"size": 10**9}, "size"),
        ({"size": True}, "size"),
        ({"size": 32, "short_side": 31}, "short_side: expected at least 32"),
        ({"size": 32, "color": "rgb"}, "color: expected RGB or BGR"),
        ({"size": 32, "interpolation": "nearest"}, "interpolation: expected bicubic or bilinear"),
        ({"size": 32, "mean": [0.5, 0.5]}, "mean: expected three finite numbers"),
        ({"size": 32, "mean": [0.5, 0.5, float("nan")]}, "mean"),
    ],
)
def test_preprocessing_of_factories_is_checked(value: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        preprocessing_of(value)


def test_another_size_keeps_the_share_that_is_cut() -> None:
    assert Preprocessing((224, 224), 256).resized((112, 112)) == Preprocessing((112, 112), 128)
    assert Preprocessing((224, 224)).resized((96, 128)) == Preprocessing((96, 128))
    assert preprocessing_of({"size": [8, 16], "std": 0.5}).std == (0.5, 0.5, 0.5)


def test_pooled_features_are_amounts_of_colors_in_the_cells_of_three_grids() -> None:
    images = np.zeros((3, 64, 64, 3), np.uint8)
    images[1, :16, :16] = (255, 102, 51)  # the first of 4 x 4 cells: white 0.2, yellow 0.2, red 0.6
    images[2, 48:, 48:] = (0, 0, 51)  # the last one: blue 0.2
    features = PooledPixels((64, 64)).encode(images)
    fine, middle, coarse = (part.reshape(3, -1, len(COLORS)) for part in np.split(features, [16 * 7, 20 * 7], axis=1))
    orange = np.array([0.2, 0.6, 0.2, 0, 0, 0, 0])
    for level, factor in ((fine, 2), (middle, 4 / 4), (coarse, 8 / 16)):  # 8 / cells of a side, part of a cell
        np.testing.assert_allclose(level[1, 0], factor * orange, rtol=1e-6)
        np.testing.assert_allclose(level[2, -1], factor * np.array([0, 0, 0, 0, 0, 0.2, 0]), rtol=1e-6)
    assert np.count_nonzero(features, axis=1).tolist() == [0, 9, 3]


def test_a_pooled_feature_depends_on_its_frame_alone() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    backbone = PooledPixels((64, 64))
    whole = backbone.encode(images)
    order = [3, 0, 4, 2, 1]
    assert np.array_equal(backbone.encode(images[order]), whole[order])


def test_amounts_add_up_to_the_pixel() -> None:
    images = np.random.default_rng(1).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    images[0] = images[0, :, :, :1]  # gray
    white, red, yellow, green, cyan, blue, magenta = np.moveaxis(amounts(images).astype(int), -1, 0)
    rebuilt = np.stack([white + red + yellow + magenta, white + green + yellow + cyan, white + blue + cyan + magenta])
    assert np.array_equal(np.moveaxis(rebuilt, 0, -1), images)
    assert not amounts(images)[0, ..., 1:].any()


def test_the_digest_covers_names_shapes_and_values() -> None:
    digests = {digest_of(Convolution(0)), digest_of(Convolution(1)), digest_of(torch.nn.Linear(2, 2))}
    assert len(digests) == 3
    assert digest_of(Convolution(0)) in digests
    backbone = ModuleBackbone("x", Convolution(0), Preprocessing((16, 16)), clip=1, device="cpu")
    assert backbone.info.dim == 12
