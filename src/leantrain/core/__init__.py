"""What every method and the loader share: selector, plan, ledger, counts, facts of the data set."""
