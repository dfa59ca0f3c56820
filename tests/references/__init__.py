"""Each paper's formula once more: slow, plain Python, written from the paper and not from src."""
