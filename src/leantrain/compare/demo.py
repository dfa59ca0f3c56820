"""The comparison that ``leantrain demo`` runs: nine methods on scikit-learn's digits, two seeds."""

from leantrain.compare.config import CompareConfig

DEMO = CompareConfig(
    data="digits",
    model="small",
    width=8,
    methods=("full", "rpd", "rs2", "infobatch", "ids", "adonis", "ids+adonis", "sb", "stale-sb"),
    seeds=(0, 1),
    epochs=15,
    batch_size=64,
)
