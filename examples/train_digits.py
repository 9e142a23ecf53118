"""Train the small network of `digits.onnx` and export it. Takes about a minute on one core.

    pip install 'optimize-graph[export]' scikit-learn
    python examples/train_digits.py

A convolutional network with batch normalization, hard-swish and squeeze-and-excitation blocks on scikit-learn's
handwritten digits (1,797 images of 8 by 8, Alpaydin and Kaynak 1998), in the style of MobileNetV3 (arXiv:1905.02244).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from optimize_graph import export
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).parent


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels // 4, 1), nn.ReLU(),
            nn.Conv2d(channels // 4, channels, 1), nn.Hardsigmoid(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class Block(nn.Module):
    def __init__(self, channels: int, expanded: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, expanded, 1, bias=False), nn.BatchNorm2d(expanded), nn.Hardswish(),
            nn.Conv2d(expanded, expanded, 3, padding=1, groups=expanded, bias=False), nn.BatchNorm2d(expanded),
            nn.Hardswish(), SqueezeExcite(expanded),
            nn.Conv2d(expanded, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip
        self.scale = nn.Parameter(torch.ones(1))
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) * self.scale + self.shift


class Digits(nn.Module):
    """float32 images [batch, 1, 8, 8] of pixels from 0 to 16 -> probabilities [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.Hardswish(),
            Block(24, 48), Block(24, 48), nn.MaxPool2d(2), Block(24, 48),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(24, 10),
        )  # fmt: skip

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.body((image - 4.9) / 6.0), dim=-1)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32).reshape(-1, 1, 8, 8)
    x, x_test, y, y_test = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
    model = Digits()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=40 * len(loader))
    for _ in range(40):
        for batch, wanted in loader:
            loss = nn.functional.nll_loss(torch.log(model(batch) + 1e-9), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        right = (model(torch.from_numpy(x_test)).argmax(-1).numpy() == y_test).mean()
    print(f"accuracy on {len(y_test)} unseen images: {right:.3f}")
    batch = torch.export.Dim("batch", min=1, max=1024)
    sample = torch.from_numpy(x_test[:2])
    export(model, (sample,), HERE / "digits.onnx", dynamic_shapes=({0: batch},))
    np.savez(HERE / "digits.inputs.npz", image=x_test[:16])


if __name__ == "__main__":
    main()
