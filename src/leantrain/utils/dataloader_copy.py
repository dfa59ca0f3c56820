"""A DataLoader like the user's: workers, collating, pinned memory and the like are theirs, what differs is said."""

from typing import Any

from torch.utils.data import DataLoader

KEPT = ("dataset", "collate_fn", "generator", "num_workers", "pin_memory", "worker_init_fn")
OF_WORKERS = ("multiprocessing_context", "persistent_workers", "prefetch_factor", "timeout")


def copy_with(loader: DataLoader[Any], **changes: Any) -> DataLoader[Any]:
    """A DataLoader with everything of ``loader`` but its order and ``changes``, arguments of ``DataLoader``.

    Without ``batch_size`` or ``batch_sampler`` among them it gives single samples in order. With ``num_workers=0``
    nothing that only workers know is kept.
    """
    names = KEPT if changes.get("num_workers", loader.num_workers) == 0 else KEPT + OF_WORKERS
    return DataLoader(**{name: getattr(loader, name) for name in names} | changes)
