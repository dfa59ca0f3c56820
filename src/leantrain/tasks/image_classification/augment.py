"""Image augmentation for whole batches, as a pure function of (seed, epoch, sample index).

Every random number comes from a counter-based hash instead of a generator with state. A sample is therefore
augmented the same way whichever worker loads it, whatever else is in its batch, and after a resume; global
generators are neither read nor moved. Letters: B batch, C channels, H W stored size, S output size.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # SplitMix64's increment: 2^64 / golden ratio
# Column of ``uniforms`` that each choice reads, fixed so that switching one on leaves the others as they were.
_TOP, _LEFT, _FLIP, _ANGLE, _AREA, _RATIO = range(6)


def uniforms(seed: int, epoch: int, indices: Tensor, k: int) -> Tensor:
    """``k`` uniform numbers for each sample, the same ones on every call and device.

    Args:
        seed, epoch: any integers (taken modulo 2^64).
        indices: (B,) int64, positions in the data set.
        k: how many columns; column j does not depend on k.

    Returns:
        (B, k) float32 in [0, 1), multiples of 2^-24, on the device of ``indices``.

    Source: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), its finaliser applied once per counter.
    """
    key = _mix_int(_mix_int(seed & _MASK) + (epoch & _MASK) & _MASK)
    steps = torch.arange(1, k + 1, device=indices.device, dtype=torch.int64) * _signed(_GOLDEN)
    state_B = _mix(indices.to(torch.int64) + _signed(key))
    bits_Bk = _mix(state_B[:, None] + steps)
    return _shift(bits_Bk, 40).to(torch.float32) * 2.0**-24


class Augment:
    """Random crop, flip and rotation on uint8 batches, then normalisation.

    Args:
        mean, std: one number per channel, in the 0..1 scale of the pixels.
        size: S, side of the square that comes out, in pixels.
        pad: black border in pixels, added before the random crop (before normalising, as torchvision's
            ``RandomCrop(padding=...)`` does, so the border is not the mean colour but black).
        flip: mirror left to right with probability 1/2.
        rotation: largest angle in degrees; the angle is uniform in [-rotation, rotation], about the crop's
            centre, bilinear. Corners show the image where there is some left, and black elsewhere.
        resized_crop: crop 8-100 % of the area with an aspect of 3/4-4/3 and scale it to S x S, bilinear (the
            ImageNet recipe). A box that does not fit is cut to the image; torchvision draws again instead.
        seed: of all random choices.

    Raises:
        ValueError: a setting outside its range, or ``pad`` with ``resized_crop``, where it would be ignored.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
        pad: int = 0,
        flip: bool = False,
        rotation: float = 0.0,
        resized_crop: bool = False,
        seed: int = 0,
    ) -> None:
        if len(mean) != len(std) or not mean:
            raise ValueError(f"mean has {len(mean)} and std {len(std)} values; give one of each per channel.")
        if min(std) <= 0:
            raise ValueError(f"std={tuple(std)} has to be positive; leave out constant channels.")
        if size < 1:
            raise ValueError(f"size={size} is not positive. It is the side of the output in pixels, e.g. 32.")
        if pad < 0:
            raise ValueError(f"pad={pad} is negative. It is a border in pixels, e.g. 4 for 32x32 images.")
        if not 0 <= rotation <= 180:
            raise ValueError(f"rotation={rotation} is outside [0, 180]. It is the largest angle in degrees.")
        if resized_crop and pad:
            raise ValueError(f"pad={pad} has no effect with resized_crop=True; set one of the two.")
        self.mean, self.std = tuple(mean), tuple(std)
        self.size, self.pad, self.flip = size, pad, flip
        self.rotation, self.resized_crop, self.seed = rotation, resized_crop, seed

    def __call__(
        self, images: Tensor, indices: Tensor, epoch: int, view: Callable[[Tensor], Tensor] = lambda images: images
    ) -> Tensor:
        """Augment one training batch.

        Args:
            images: (B, C, H, W) uint8.
            indices: (B,) int64, each sample's position in the data set.
            epoch: counted from 0; another epoch gives other crops.
            view: resizes the crops; given uint8 ones where none was warped, which is cheapest.

        Returns:
            (B, C, S, S) float32, normalised, on the device of ``images``; of the side that ``view`` gives.
        """
        self._check(images)
        if len(indices) != len(images):
            raise ValueError(f"{len(indices)} indices for {len(images)} images; give one per image.")
        u_Bk = uniforms(self.seed, epoch, indices.to(images.device), 6)
        if self.rotation > 0 or self.resized_crop:
            return self._normalise(view(self._warp(images, u_Bk)))
        return self._normalise(view(self._crop(images, u_Bk)))

    def plain(self, images: Tensor) -> Tensor:
        """The evaluation transform: centre crop to S x S, normalise; (B, C, H, W) uint8 to float32."""
        self._check(images)
        height, width = images.shape[-2:]
        if min(height, width) < self.size:
            raise ValueError(f"images of {height}x{width} are smaller than size={self.size}; resize first.")
        top, left = (height - self.size) // 2, (width - self.size) // 2
        return self._normalise(images[..., top : top + self.size, left : left + self.size])

    def _check(self, images: Tensor) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(
                f"images are {images.dtype} of shape {tuple(images.shape)}; "
                f"expected uint8 (B, {len(self.mean)}, H, W), as the data readers return them."
            )

    def _normalise(self, images: Tensor) -> Tensor:
        by_channel = [1 / (255 * s) for s in self.std], [-m / s for m, s in zip(self.mean, self.std, strict=True)]
        scale, shift = torch.tensor(by_channel, dtype=torch.float32, device=images.device).view(2, -1, 1, 1)
        return images.to(torch.float32, memory_format=torch.contiguous_format).mul_(scale).add_(shift)

    def _crop(self, images: Tensor, u_Bk: Tensor) -> Tensor:
        """Shifted S x S windows of the padded batch, some mirrored; uint8, so that little memory moves."""
        rows, columns = self._choices(*images.shape[-2:])
        padded = F.pad(images, (self.pad,) * 4) if self.pad else images
        if rows > 1 or columns > 1:
            top_B, left_B = (u_Bk[:, _TOP] * rows).long(), (u_Bk[:, _LEFT] * columns).long()
            windows = padded.unfold(2, self.size, 1).unfold(3, self.size, 1)  # (B, C, rows, columns, S, S), a view
            sample_B = torch.arange(len(images), device=images.device)
            padded = windows.permute(0, 2, 3, 1, 4, 5)[sample_B, top_B, left_B]
        if self.flip:
            mirrored_B = u_Bk[:, _FLIP] < 0.5
            padded = torch.where(mirrored_B.view(-1, 1, 1, 1), padded.flip(-1), padded)
        return padded

    def _choices(self, height: int, width: int) -> tuple[int, int]:
        """How many rows and columns the top left corner of a crop can lie on."""
        rows, columns = (side + 2 * self.pad - self.size + 1 for side in (height, width))
        if min(rows, columns) < 1:
            raise ValueError(
                f"images of {height}x{width} with pad={self.pad} are smaller than size={self.size}; "
                "resize them first or raise pad."
            )
        return rows, columns

    def _warp(self, images: Tensor, u_Bk: Tensor) -> Tensor:
        """Crop, flip and rotation as one affine map per sample, so pixels are interpolated once."""
        height, width = images.shape[-2:]
        if self.resized_crop:
            area_B = (0.08 + 0.92 * u_Bk[:, _AREA]) * (height * width)
            ratio_B = torch.exp((2 * u_Bk[:, _RATIO] - 1) * math.log(4 / 3))
            box_h_B = (area_B / ratio_B).sqrt().clamp(max=height)
            box_w_B = (area_B * ratio_B).sqrt().clamp(max=width)
            top_B, left_B = u_Bk[:, _TOP] * (height - box_h_B), u_Bk[:, _LEFT] * (width - box_w_B)
        else:
            rows, columns = self._choices(height, width)
            box_h_B = box_w_B = torch.full_like(u_Bk[:, 0], self.size)
            top_B = (u_Bk[:, _TOP] * rows).floor() - self.pad
            left_B = (u_Bk[:, _LEFT] * columns).floor() - self.pad
        angle_B = (2 * u_Bk[:, _ANGLE] - 1) * math.radians(self.rotation)
        one_B = torch.ones_like(angle_B)
        mirror_B = torch.where(u_Bk[:, _FLIP] < 0.5, -one_B, one_B) if self.flip else one_B
        cos_B, sin_B = angle_B.cos(), angle_B.sin()
        # From output (x, y) in [-1, 1] to the [-1, 1] of the source: mirror, scale to the box, rotate about
        # its centre, shift there. Row x is in units of half the width, row y of half the height.
        row_x = [mirror_B * box_w_B * cos_B, -box_h_B * sin_B, 2 * left_B + box_w_B - width]
        row_y = [mirror_B * box_w_B * sin_B, box_h_B * cos_B, 2 * top_B + box_h_B - height]
        theta = torch.stack([torch.stack(row_x, -1) / width, torch.stack(row_y, -1) / height], dim=1)  # (B, 2, 3)
        grid = F.affine_grid(theta, [len(images), images.shape[1], self.size, self.size], align_corners=False)
        return F.grid_sample(images.float(), grid, padding_mode="zeros", align_corners=False)


def _signed(value: int) -> int:
    """The int64 with the same 64 bits; torch has no uint64 arithmetic."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64; torch's own copies the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 tensors; multiplication wraps modulo 2^64."""
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _mix_int(x: int) -> int:
    """The same finaliser on a Python integer in [0, 2^64), after adding the increment."""
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
