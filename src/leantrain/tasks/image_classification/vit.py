"""A small vision transformer that takes images of any side its patches divide. T tokens, D width."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SmallViT(nn.Module):
    """Patches, learnt positions, pre-norm encoder blocks, mean over tokens, linear head ``fc``.

    Positions are learnt for the full side and interpolated for others, bicubic, as in Touvron et al., "Fixing the
    train-test resolution discrepancy", NeurIPS 2019. The rest is Dosovitskiy et al., ICLR 2021, without class token.

    Args:
        classes, channels: of head and input.
        image_size: side in pixels that positions are learnt for. A patch has an eighth of it: 64 tokens.
        width: D, heads of 32 channels each.

    Raises:
        ValueError: a side that 8 does not divide; on a forward pass, one that the patches do not divide.
    """

    def __init__(self, classes: int, channels: int, width: int = 128, *, image_size: int, depth: int = 6) -> None:
        super().__init__()
        heads = max(1, width // 32)
        if width % heads or image_size % 8:
            raise ValueError(
                f"width={width} and image_size={image_size}: the width must divide into {heads} heads, the side by 8."
            )
        self.patch = image_size // 8
        side = self._tokens(image_size)
        self.embed = nn.Conv2d(channels, width, self.patch, self.patch)
        self.positions = nn.Parameter(torch.randn(1, width, side, side) * 0.02)
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, F.gelu, batch_first=True, norm_first=True)
                for _ in range(depth)
            ),
            nn.LayerNorm(width),
        )
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, channels, H, W)."""
        sides = [self._tokens(side) for side in x.shape[2:]]
        positions = self.positions
        if sides != list(positions.shape[2:]):
            positions = F.interpolate(positions, sides, mode="bicubic", antialias=True)
        tokens = (self.embed(x) + positions).flatten(2).mT  # (B, T, D)
        return self.fc(self.blocks(tokens).mean(1))

    def _tokens(self, side: int) -> int:
        if side % self.patch:
            raise ValueError(f"images of {side} pixels do not divide into patches of {self.patch}.")
        return side // self.patch
