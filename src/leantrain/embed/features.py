"""Features: an embedding of a data set that knows which data set it belongs to. N samples, D features each."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Features:
    """The embedding of every sample.

    Args:
        values: (N, D) float32, row i belongs to sample i; NaN where the DataLoader's sampler cannot give it.
        fingerprint: of the data set; empty when unknown.
        extractor: what made them, in words.
        seconds: how long that took.
        lost: how many samples could not be read; their rows are the mean of all others.
    """

    values: Tensor
    fingerprint: str = ""
    extractor: str = ""
    seconds: float = 0.0
    lost: int = 0

    def check_fingerprint(self, fingerprint: str) -> None:
        """ValueError when these features were made from another data set than the one named."""
        if self.fingerprint and fingerprint and self.fingerprint != fingerprint:
            raise ValueError(
                f"These features belong to another data set (fingerprint {self.fingerprint[:12]}, this one has "
                f"{fingerprint[:12]}). The data changed since they were made: embed it again."
            )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file."""
        from safetensors.torch import save_file

        facts = {"fingerprint": self.fingerprint, "extractor": self.extractor, "seconds": repr(self.seconds)}
        save_file({"features": self.values.contiguous()}, str(path), metadata=facts)

    @staticmethod
    def load(path: str | Path) -> "Features":
        """Read what ``save`` wrote. ValueError, naming the file, when it is something else."""
        from safetensors import safe_open

        try:
            with safe_open(str(path), framework="pt") as file:
                facts = file.metadata() or {}
                values, seconds = file.get_tensor("features"), float(facts.get("seconds", 0))
        except FileNotFoundError:
            raise
        except Exception as error:  # SafetensorError, and for other files nearly every type
            raise ValueError(f"{path} is not a whole features file ({error}). Embed the data set again.") from error
        if values.ndim != 2 or not values.is_floating_point():
            raise ValueError(
                f"{path} holds {values.dtype} of shape {tuple(values.shape)}; expected floats of shape (N, D), one row "
                "a sample. Embed the data set again."
            )
        return Features(values, facts.get("fingerprint", ""), facts.get("extractor", ""), seconds)
