"""Several ranks: who they are, what they tell one another, one plan and one ledger for all."""
