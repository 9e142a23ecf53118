"""The model that was given: a path, bytes, protobuf or onnx-ir."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .. import ir
from ..options import DEFAULT_TARGET, Options
from .optimization.target_versions import ConvertedModel, convert_versions, verify_target

if TYPE_CHECKING:
    import onnx

Given: TypeAlias = "str | Path | bytes | onnx.ModelProto | ir.Model"


@dataclass(frozen=True)
class Source:
    """A model as it was given, and what is asked of its interface and versions. Each load gives it afresh."""

    given: Path | bytes | onnx.ModelProto | ir.Model
    follow_symlinks: bool = False
    input_shapes: Mapping[str, Sequence[int | str]] | None = None
    dims: Mapping[str, int] | None = None
    freeze: Sequence[str] = ()
    opset: int | None = None
    min_ort: str | None = None
    target: str | Path = DEFAULT_TARGET
    verify_target: str = ""

    @classmethod
    def of(cls, given: Given, options: Options) -> Source:
        """The source that `options` describe."""
        return cls(
            Path(given) if isinstance(given, str) else given,
            options.follow_symlinks,
            options.input_shapes,
            options.dims,
            options.freeze,
            options.opset,
            options.min_ort,
            options.target,
            verify_target(options),
        )

    @property
    def name(self) -> str:
        """How the model is called in a command that is shown."""
        return str(self.given) if isinstance(self.given, Path) else "MODEL.onnx"

    def load(self) -> ir.Model:
        """The model with the dims that were asked for. Raises ModelError for one that is malformed."""
        if isinstance(self.given, Path):
            model = ir.load(self.given, follow_symlinks=self.follow_symlinks)
        elif isinstance(self.given, ir.Model):
            model = self.given.clone()
            ir.stamp_versions(model)
        else:
            model = ir.from_proto(self.given)
        remarks, problems = ir.repair(model)
        if problems and not ir.not_representable(model):
            raise ir.ModelError(problems[0])
        ir.add_load_remarks(model, remarks)
        ir.freeze_inputs(model, self.freeze)
        ir.fix_input_dims(model, self.input_shapes or {})
        ir.fix_dims(model, self.dims or {})
        return model

    def file_bytes(self, data: Sequence[str]) -> int | None:
        """Bytes of the model as it was given, with its files of external data; None for one of onnx-ir."""
        if isinstance(self.given, Path):
            return sum(file.stat().st_size for file in (self.given, *(self.given.parent / name for name in data)))
        return None if isinstance(self.given, ir.Model) else len(self._bytes())

    def convert(self, model: ir.Model) -> ConvertedModel:
        """A model at the versions that were asked for."""
        return convert_versions(model, self.opset, self.min_ort, target=self.target, verify_target=self.verify_target)

    def file(self, folder: Path) -> Path:
        """A file that ONNX Runtime can open, in `folder` where the model came without one."""
        if isinstance(self.given, Path):
            return self.given
        path = folder / "original.onnx"
        if isinstance(self.given, ir.Model):
            ir.save(self.given.clone(), path)
        else:
            path.write_bytes(self._bytes())
        return path

    def stage_unchanged(self, model: ir.Model, target: Path) -> ir.Staged:
        """The model beside `target` as it came, byte for byte."""
        if isinstance(self.given, Path):
            return ir.stage_unchanged(self.given, target, ir.data_files(model))
        return ir.stage_bytes(self._bytes(), target)

    def _bytes(self) -> bytes:
        if isinstance(self.given, bytes):
            return self.given
        if isinstance(self.given, (Path, ir.Model)):
            raise TypeError("only bytes and protobuf models are written as they came")
        data: bytes = self.given.SerializeToString(deterministic=True)
        return data
