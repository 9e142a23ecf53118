"""Read and write feeds as `.npz` files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ... import ir
from ..ort.session_options import Array, Feeds
from .feed_generator import required_inputs


def read_file(path: Path, model: ir.Model) -> Feeds:
    """The arrays of an `.npz` file by input name. Raises ModelError (`inputs-do-not-fit`) unless they fit the model."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: Mapping[str, Array] = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _misfit(path, f"expected an .npz file of plain arrays: {error}") from None
    required = {value.name or "": value for value in required_inputs(model)}
    overridable = {value.name or "": value for value in model.graph.inputs if value.is_initializer()}
    unknown = [name for name in arrays if name not in required and name not in overridable]
    missing = [name for name in required if name not in arrays]
    if unknown or missing:
        problem = f"has no {missing[0]!r}" if missing else f"has {unknown[0]!r}, which is no input"
        raise _misfit(path, f"{problem}; the model's inputs are {list(required)}")
    return {name: _checked(path, {**required, **overridable}[name], array) for name, array in arrays.items()}


def write_feeds(path: Path, feeds: Mapping[str, Array]) -> None:
    """Write feeds as `read_file` reads them, under any names: `np.savez` reserves `file`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in feeds.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _checked(path: Path, value: ir.Value, array: Array) -> Array:
    """`array` as the type of the input. Raises ModelError when its type or dims are others."""
    dtype = value.dtype
    if not isinstance(value.type, ir.TensorType) or dtype is None:
        raise _misfit(path, f"input {value.name!r} is {value.type}, which .npz files cannot hold")
    dims = array.shape if value.shape is None else value.shape.dims
    fits = len(dims) == array.ndim and all(
        dim == size for dim, size in zip(dims, array.shape, strict=True) if isinstance(dim, int) and dim >= 0
    )
    if not fits:
        raise _misfit(path, f"expected shape {value.shape} for input {value.name!r}, got {list(array.shape)}")
    if dtype == ir.DataType.STRING and array.dtype.kind in "US":
        return array.astype(str).astype(object)
    expected = dtype.numpy()
    if array.dtype.kind == "V" and array.dtype.itemsize == expected.itemsize:
        return array.view(expected)  # NumPy saves bfloat16 and its like as raw bytes
    if array.dtype != expected and not (array.dtype.kind == "f" and expected.kind == "V"):
        raise _misfit(path, f"expected {expected} for input {value.name!r}, got {array.dtype}")
    return array.astype(expected, copy=False)


def _misfit(path: Path, message: str) -> ir.ModelError:
    return ir.ModelError(ir.Diagnostic("inputs-do-not-fit", message, ir.Location(file=str(path))))
