"""Backbones that are ONNX files, run by onnxruntime."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from esv_ray import storage
from esv_ray.errors import ModelError, SpecError, short_text
from esv_ray.extraction.backbones.backbone import BackboneInfo, Images
from esv_ray.extraction.backbones.preprocessing import Preprocessing

_MOST_BYTES = 2**31  # what one protobuf message holds


class OnnxBackbone:
    """An ONNX model from images (N, 3, H, W), or clips (N, 3, k, H, W), float32, to features (N, D)."""

    def __init__(self, name: str, url: str, preprocessing: Preprocessing, *, clip: int, threads: int) -> None:
        """Load the model, and try it on black images. It runs on the CPU.

        Args:
            name: of the backbone.
            url: location of the file.
            preprocessing: of its images; its size is replaced by the model's, if that is fixed.
            clip: frames of an element; 1: images.
            threads: of the runtime.

        Raises:
            SpecError: onnxruntime is not installed.
            DataError: the file cannot be read.
            ModelError: it is no ONNX model, or not one from images to features.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise SpecError("backbone onnx needs onnxruntime: pip install 'esv-ray[onnx]'") from error
        data = storage.read_bytes(url, "read the backbone", most=_MOST_BYTES)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        self._name = name
        try:
            self._session: Any = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(f"{url}: expected an ONNX model, got: {short_text(error, 200)}") from error
        preprocessing = preprocessing.resized(self._fixed_size(clip))
        self._order = [0, 1, 2] if preprocessing.color == "RGB" else [2, 1, 0]
        shape = (3, *(1,) * (2 if clip == 1 else 3))
        self._mean, self._std = (
            np.array(values, np.float32).reshape(shape) for values in (preprocessing.mean, preprocessing.std)
        )
        height, width = preprocessing.size
        black = np.zeros((2, *((clip,) if clip > 1 else ()), height, width, 3), np.uint8)
        dim = self.encode(black).shape[1]
        self.info = BackboneInfo(name, hashlib.sha256(data).hexdigest()[:32], preprocessing, dim)

    def encode(self, images: Images) -> npt.NDArray[np.float32]:
        """Return (N, D) features; as `Backbone.encode`."""
        values = np.moveaxis(images[..., self._order], -1, 1).astype(np.float32) / np.float32(255)
        values = np.ascontiguousarray((values - self._mean) / self._std)
        feed = {self._session.get_inputs()[0].name: values}
        try:
            returned = self._session.run(None, feed)[0]
        except Exception as error:
            raise ModelError(f"backbone {self._name}: failed on {values.shape}: {short_text(error, 200)}") from error
        if not isinstance(returned, np.ndarray) or returned.ndim != 2 or len(returned) != len(images):
            got = returned.shape if isinstance(returned, np.ndarray) else type(returned).__name__
            raise ModelError(f"backbone {self._name}: expected features ({len(images)}, D), got {got}")
        return returned.astype(np.float32, copy=False)

    def _fixed_size(self, clip: int) -> tuple[int, int] | None:
        """Return height and width of the model's input, if they are fixed."""
        inputs = self._session.get_inputs()
        dims = inputs[0].shape if len(inputs) == 1 else []
        expected = 4 if clip == 1 else 5
        if len(dims) != expected or inputs[0].type != "tensor(float)":
            form = "(N, 3, H, W)" if clip == 1 else "(N, 3, k, H, W)"
            got = [(each.shape, each.type) for each in inputs]
            raise ModelError(f"backbone {self._name}: expected one float32 input {form}, got {got!r:.120}")
        height, width = dims[-2:]
        return (height, width) if type(height) is int and type(width) is int else None
