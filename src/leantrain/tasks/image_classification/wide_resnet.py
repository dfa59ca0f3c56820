"""WRN-28-10, the wide residual network for 32x32 images."""

import torch.nn.functional as F
from torch import Tensor, nn


class WideBlock(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, twice, with a shortcut that starts after the first ReLU where it convolves."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.first = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False) if inputs != width or stride != 1 else None

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.first_norm(x))
        straight = self.shortcut(activated) if self.shortcut else x
        return straight + self.second(F.relu(self.second_norm(self.first(activated))))


class WideResNet(nn.Module):
    """28 layers: a 3x3 stem of 16 channels and three stages of four blocks, without dropout.

    Args:
        classes, channels: of logits and images.
        width: channels of the first stage, 16 times the paper's factor k; the next stages double it.

    Source: Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016, arXiv 1605.07146.
    """

    def __init__(self, classes: int, channels: int, width: int = 160) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1, bias=False)]
        features = 16
        for stage in range(3):
            outputs = width * 2**stage
            for position in range(4):
                blocks.append(WideBlock(features, outputs, 2 if stage and not position else 1))
                features = outputs
        self.features = nn.Sequential(*blocks, nn.BatchNorm2d(features), nn.ReLU(inplace=True))
        self.fc = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean(dim=(2, 3)))
