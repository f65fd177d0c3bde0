"""Backbones of timm, open_clip and torchvision: the features of the libraries' own models, and nothing downloaded.

The libraries are not among the test dependencies, since PyPI's torchvision cannot be imported beside a CPU build of
torch, and transformers fails where that is so. `test_ready_release` installs them in a folder and runs these tests.
"""

from __future__ import annotations

import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from esv_ray.decoding import Every, open_decoder
from esv_ray.errors import EsvError, ModelError, SpecError
from esv_ray.extraction.backbones.opening import open_backbone
from esv_ray.extraction.backbones.ready import open_ready
from esv_ray.spec_extract import load_extract_spec
from tests.extraction.conftest import Extract
from tests.support.torchvision import import_torchvision
from tests.support.videos import write_video

TIMM = ("test_vit.r160_in1k", "test_resnet.r160_in1k", "test_efficientnet.r160_in1k", "test_convnext.r160_in1k")
WHY = "timm, open_clip and torchvision are not installed: see tests/extraction/test_ready_release.py"


@pytest.fixture(scope="module")
def libraries() -> None:
    """Import the libraries, with a torchvision of another build of torch."""
    if not import_torchvision():
        pytest.skip(WHY)
    pytest.importorskip("timm", reason=WHY)
    pytest.importorskip("open_clip", reason=WHY)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of a usual size, 7 frames."""
    return write_video(tmp_path_factory.mktemp("filmed") / "filmed.mp4", frames=7, size=(360, 480))


@pytest.fixture
def offline(libraries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection fail the test."""

    def refused(*_: object, **__: object) -> Any:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def save(module: nn.Module, path: Path) -> nn.Module:
    """Give a model random weights, and write them."""
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(value.shape, generator=generator) * 0.05 + 0.5 * name.endswith("running_var")
        if value.is_floating_point() and not name.endswith("running_var")
        else torch.ones_like(value)
        for name, value in module.state_dict().items()
    }
    module.load_state_dict(state)
    safetensors.torch.save_file({name: value.contiguous() for name, value in state.items()}, path)
    return module.eval()


def extracted(run: Extract, video_file: Path, place: Path, backbone: str, weights: Path) -> Tensor:
    """Features of all frames of a video."""
    run(
        video_file,
        f"backbone={backbone}",
        f"weights={weights}",
        f"output={place}",
        "frames=all",
        "compute.batch=3",
    )
    (row,) = (row for file in (place / "features").iterdir() for row in pq.read_table(file).to_pylist())
    return torch.tensor(row["features"])


def prepared(video_file: Path, backbone: str, weights: Path) -> Tensor:
    """(T, 3, H, W) frames of a video, sized and normalized as the backbone's record says."""
    spec = load_extract_spec(None, ["videos=v", "output=o", f"backbone={backbone}", f"weights={weights}"])
    preprocessing = open_backbone(spec).info.preprocessing
    with open_decoder(isolated=False).open(str(video_file)) as video:
        images = np.stack([frame.image for frame in video.frames(Every(), resize=preprocessing.resize)])
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (preprocessing.mean, preprocessing.std))
    return (torch.from_numpy(images).movedim(-1, 1).float() / 255 - mean) / std


def whole_frames(video_file: Path) -> list[Image.Image]:
    with open_decoder(isolated=False).open(str(video_file)) as video:
        return [Image.fromarray(frame.image) for frame in video.frames(Every())]


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", TIMM)
def test_timm(filmed: Path, run: Extract, tmp_path: Path, name: str) -> None:
    import timm

    weights = tmp_path / "weights.safetensors"
    whole = save(timm.create_model(name, pretrained=False), weights)
    own = timm.create_model(name, pretrained=False, num_classes=0).eval()
    own.load_state_dict({key: value for key, value in whole.state_dict().items() if key in own.state_dict()})
    features = extracted(run, filmed, tmp_path / "table", f"timm:{name}", weights)
    values = prepared(filmed, f"timm:{name}", weights)
    with torch.no_grad():
        torch.testing.assert_close(features, own(values), rtol=1e-5, atol=1e-5)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=own))
    theirs = torch.stack([transform(image) for image in whole_frames(filmed)])
    assert theirs.shape == values.shape
    std = torch.tensor(timm.data.resolve_data_config({}, model=own)["std"]).view(3, 1, 1)
    assert ((theirs - values) * std).abs().mean() < 1.5 / 255, "another decoder of colors and another resampling"


TEXT = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
CLIPS: dict[str, dict[str, Any]] = {
    "esv-tiny": {"embed_dim": 12, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}},
    "esv-timm": {
        "embed_dim": 12,
        "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear", "image_size": 160},
    },
}


@pytest.fixture
def small_clips(libraries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models that open_clip knows by name, one of them with published weights."""
    import open_clip

    for name, config in CLIPS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({**config, "text_cfg": TEXT}))
        open_clip.add_model_config(tmp_path / f"{name}.json")
    tag = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "interpolation": "bilinear", "resize_mode": "squash",
           "quick_gelu": True, "url": "https://example.org/weights.pt"}  # fmt: skip
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "esv-tiny", {"squashed": tag})


@pytest.mark.slow
@pytest.mark.usefixtures("small_clips", "offline")
@pytest.mark.parametrize("name", ["esv-tiny", "esv-timm", "esv-tiny:squashed"])
def test_open_clip(filmed: Path, run: Extract, tmp_path: Path, name: str) -> None:
    import open_clip

    weights = tmp_path / "weights.safetensors"
    model, _, tag = name.partition(":")
    built = open_clip.create_model(model, pretrained=None, force_quick_gelu=bool(tag))
    own = save(built, weights)
    features = extracted(run, filmed, tmp_path / "table", f"open_clip:{name}", weights)
    values = prepared(filmed, f"open_clip:{name}", weights)
    with torch.no_grad():
        torch.testing.assert_close(features, own.encode_image(values), rtol=1e-5, atol=1e-5)  # type: ignore[operator]
    cfg = {**own.visual.preprocess_cfg, **open_clip.get_pretrained_cfg(model, tag)}  # type: ignore[union-attr, dict-item]
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(
            **{key: cfg[key] for key in ("size", "mean", "std", "interpolation", "resize_mode")}
        ),
        is_train=False,
    )
    theirs = torch.stack([transform(image) for image in whole_frames(filmed)])
    assert theirs.shape == values.shape
    assert ((theirs - values) * torch.tensor(cfg["std"]).view(3, 1, 1)).abs().mean() < 1.5 / 255


@pytest.mark.slow
@pytest.mark.usefixtures("libraries")
def test_published_weights_of_open_clip_say_what_is_known() -> None:
    import open_clip

    for model, tag in open_clip.list_pretrained():
        found = open_clip.get_pretrained_cfg(model, tag)
        assert found.get("interpolation", "bicubic") in ("bicubic", "bilinear")
        assert found.get("resize_mode", "shortest") in ("shortest", "squash", "longest")
        assert len(found.get("mean", (0, 0, 0))) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mobilenet_v3_small:IMAGENET1K_V1"])
def test_torchvision(filmed: Path, run: Extract, tmp_path: Path, name: str) -> None:
    """The classifier's weights on the features give the library's logits."""
    import torchvision

    weights = tmp_path / "weights.safetensors"
    own = save(torchvision.models.get_model(name.partition(":")[0], weights=None), weights)
    features = extracted(run, filmed, tmp_path / "table", f"torchvision:{name}", weights)
    values = prepared(filmed, f"torchvision:{name}", weights)
    last = [each for each in own.modules() if isinstance(each, nn.Linear)][-1]
    with torch.no_grad():
        torch.testing.assert_close(last(features), own(values), rtol=1e-4, atol=1e-5)
    transform = torchvision.models.get_model_weights(name.partition(":")[0]).DEFAULT.transforms()
    theirs = torch.stack([transform(image) for image in whole_frames(filmed)])
    assert theirs.shape == values.shape
    assert ((theirs - values) * torch.tensor(transform.std).view(3, 1, 1)).abs().mean() < 1.5 / 255


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_every_classifier_of_torchvision() -> None:
    """Built without memory: images of the recorded size become the numbers that enter the classifier."""
    import torchvision

    from esv_ray.extraction.backbones.ready import _torchvision

    refused, large = [], re.compile("regnet_(?!.*400mf)")  # regnets cannot be built without memory
    for name in torchvision.models.list_models(module=torchvision.models):
        if large.match(name):
            continue
        with torch.device("cpu" if name.startswith("regnet") else "meta"):
            try:
                made = _torchvision(torchvision, name)
            except ModelError:
                refused.append(name)
                continue
            options: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            if name.startswith("vit"):
                options = {"image_size": made.preprocessing["size"][0]}
            whole = torchvision.models.get_model(name, weights=None, **options)
            last = [each for each in whole.modules() if isinstance(each, nn.Linear)][-1]
            features = made.module.eval()(torch.empty(2, 3, *made.preprocessing["size"]))
        assert tuple(features.shape) == (2, last.in_features), name
        assert made.preprocessing["short_side"] >= max(made.preprocessing["size"])
        assert made.preprocessing["interpolation"] in ("bicubic", "bilinear")
    assert refused == ["squeezenet1_0", "squeezenet1_1"], "their classifiers are convolutions"


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_every_model_of_timm_is_prepared_in_a_known_way() -> None:
    import timm

    for name in timm.list_models():
        config = timm.models.get_pretrained_cfg(name)
        if config is not None and config.crop_mode != "border" and config.crop_pct <= 1:  # others are refused
            assert config.interpolation in ("bicubic", "bilinear"), name
            assert config.crop_mode == "squash" or config.input_size[1] == config.input_size[2], name


@pytest.mark.slow
@pytest.mark.usefixtures("small_clips", "offline")
def test_files_and_names_of_other_models_are_refused(tmp_path: Path) -> None:
    import timm

    weights = str(tmp_path / "w.safetensors")
    save(timm.create_model("test_vit", pretrained=False), Path(weights))
    cases = [
        ("timm", "test_resnet", weights, ModelError, "expected .* to hold the weights of this model, got also"),
        ("timm", "test_vit", None, SpecError, r"a file with its weights \(weights\), got none; esv_ray downloads"),
        ("timm", "resnet81", weights, SpecError, "expected one of its .* names, got 'resnet81'; did you mean resnet"),
        ("timm", "hf-hub:timm/resnet18.a1_in1k", weights, SpecError, "expected one of its"),
        ("timm", "https://example.org/x", weights, SpecError, "expected one of its"),
        ("open_clip", "hf-hub:laion/CLIP", weights, SpecError, "expected one of its"),
        ("open_clip", "roberta-ViT-B-32", weights, ModelError, "its text encoder would be downloaded"),
        ("open_clip", "esv-tiny:best", weights, SpecError, "expected one of its 1 names, got 'best'"),
        ("open_clip", "esv-tiny", weights, ModelError, "got also"),
        ("torchvision", "resnet18:V9", weights, SpecError, "expected one of its 2 names, got 'V9'"),
        ("torchvision", "r3d_18", weights, SpecError, "expected one of its 80 names, got 'r3d_18'"),
        ("torchvision", "squeezenet1_0", weights, ModelError, "expected a classifier that is a linear layer"),
    ]  # fmt: skip
    for kind, name, file, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            open_ready(kind, name, file)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_smaller_model_refuses_the_weights_of_a_larger_one(tmp_path: Path) -> None:
    """All tensors of resnet18 are in a file of resnet34, in the same shapes."""
    import torchvision

    large = torchvision.models.resnet34()
    torch.save(large.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"got also .*layer1\.2\.conv1\.weight"):
        open_ready("torchvision", "resnet18", str(tmp_path / "w.pth"))
    own = torchvision.models.resnet18().state_dict()
    old = {name: value for name, value in own.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "w.pth")  # as torchvision published them
    module, _ = open_ready("torchvision", "resnet18", str(tmp_path / "w.pth"))
    assert torch.equal(module.state_dict()["layer4.1.conv2.weight"], own["layer4.1.conv2.weight"])
    old.pop("layer4.1.conv2.weight")
    torch.save(old, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"missing: layer4\.1\.conv2\.weight"):
        open_ready("torchvision", "resnet18", str(tmp_path / "w.pth"))


@pytest.mark.parametrize("kind", ["timm", "open_clip", "torchvision"])
def test_a_library_that_is_missing_or_broken_is_named(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(
        SpecError, match=rf"backbone {kind} needs {kind}: pip install 'esv-ray\[{kind.replace('_', '-')}\]'"
    ):
        open_ready(kind, "resnet18", "w.pth")
    monkeypatch.delitem(sys.modules, kind)
    (tmp_path / f"{kind}.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SpecError, match=r"cannot be imported beside torch .*nms does not exist; install a torchvision"):
        open_ready(kind, "resnet18", "w.pth")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["arguments={a: 1}"], "arguments: the backbone timm:resnet18 takes none"),
        (["clip=2"], "clip: the backbone timm:resnet18 takes single frames, expected 1, got 2"),
    ],
)
def test_options_that_do_not_go_with_them(options: list[str], message: str) -> None:
    with pytest.raises(EsvError, match=message):
        open_backbone(load_extract_spec(None, ["videos=v", "output=o", "backbone=timm:resnet18", *options]))
