"""The networks of this package: residual networks and MobileNetV2 for 32x32 images, and small ones.

All end in an ``nn.Linear`` head named ``fc`` and return logits (B, C) for images (B, channels, H, W). They take
any image size, since the last layer before the head averages over the whole image.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., CVPR 2016)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.body = self._body(inputs, width, outputs, stride)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def _body(self, inputs: int, width: int, outputs: int, stride: int) -> nn.Module:
        return nn.Sequential(*_conv_bn(inputs, width, 3, stride), nn.ReLU(inplace=True), *_conv_bn(width, outputs, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class Bottleneck(BasicBlock):
    """1x1, 3x3 (which carries the stride), 1x1 with a shortcut; four times wider outside than inside."""

    expansion = 4

    def _body(self, inputs: int, width: int, outputs: int, stride: int) -> nn.Module:
        return nn.Sequential(
            *_conv_bn(inputs, width, 1),
            nn.ReLU(inplace=True),
            *_conv_bn(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *_conv_bn(width, outputs, 1),
        )


class ResNet(nn.Module):
    """3x3 stem without max-pooling, stages of residual blocks, global average, linear head ``fc``.

    Args:
        block: BasicBlock or Bottleneck.
        depths, widths, strides: blocks, channels and first stride of each stage.
        stem: channels and stride of the first convolution.
    """

    def __init__(
        self,
        block: type[BasicBlock],
        depths: Sequence[int],
        widths: Sequence[int],
        strides: Sequence[int],
        stem: tuple[int, int],
        classes: int,
        channels: int,
    ) -> None:
        super().__init__()
        features, stem_stride = stem
        self.stem = nn.Sequential(*_conv_bn(channels, features, 3, stem_stride), nn.ReLU(inplace=True))
        blocks = []
        for depth, width, stride in zip(depths, widths, strides, strict=True):
            for position in range(depth):
                blocks.append(block(features, width, stride if position == 0 else 1))
                features = width * block.expansion
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 linear (Sandler et al., CVPR 2018), as the 32x32 variant has it:
    the expansion is there even at factor 1, and blocks of stride 1 that change width get a 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.body = nn.Sequential(
            *_conv_bn(inputs, hidden, 1),
            nn.ReLU(inplace=True),
            *_conv_bn(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU(inplace=True),
            *_conv_bn(hidden, outputs, 1),
        )
        self.shortcut = _shortcut(inputs, outputs, 1) if stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if self.shortcut is None else self.body(x) + self.shortcut(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 for 32x32: the stem and the second stage keep the resolution."""

    # of each stage: expansion, outputs, blocks, stride
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, 1),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(self, classes: int, channels: int, width: int = 32) -> None:
        super().__init__()
        inputs = width
        layers: list[nn.Module] = [*_conv_bn(channels, inputs, 3), nn.ReLU(inplace=True)]
        for expansion, outputs, depth, stride in self.stages:
            outputs = max(1, outputs * width // 32)
            for position in range(depth):
                layers.append(InvertedResidual(inputs, outputs, expansion, stride if position == 0 else 1))
                inputs = outputs
        last = 1280 * width // 32
        layers += [*_conv_bn(inputs, last, 1), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    same = inputs == outputs and stride == 1
    return nn.Identity() if same else nn.Sequential(*_conv_bn(inputs, outputs, 1, stride))


def resnet32(block: type[BasicBlock], depths: Sequence[int], classes: int, channels: int, width: int = 64) -> nn.Module:
    widths = [width, 2 * width, 4 * width, 8 * width]
    return ResNet(block, depths, widths, (1, 2, 2, 2), (width, 1), classes, channels)


def tiny(classes: int, channels: int, width: int = 32) -> nn.Module:
    """Three stages of one block, 32-64-128 wide, on a stem that halves the resolution at once: 12 M
    multiply-adds at 32x32, and 81 % on CIFAR-10 in ten epochs."""
    return ResNet(BasicBlock, (1, 1, 1), (width, 2 * width, 4 * width), (1, 2, 2), (width, 2), classes, channels)


def resnet10(classes: int, channels: int, width: int = 32) -> nn.Module:
    """Four stages of one block, 32-32-64-128 wide, each and the stem at half the resolution before: 36 M
    multiply-adds at 128x128."""
    widths = (width, width, 2 * width, 4 * width)
    return ResNet(BasicBlock, (1, 1, 1, 1), widths, (2, 2, 2, 2), (width, 2), classes, channels)


def small(classes: int, channels: int, width: int = 16) -> nn.Module:
    """Three stages of one block, 16-32-64 wide: seconds on 8x8 digits, 12 M multiply-adds at 32x32."""
    return ResNet(BasicBlock, (1, 1, 1), (width, 2 * width, 4 * width), (1, 2, 2), (width, 1), classes, channels)
