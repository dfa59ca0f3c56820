"""The reference trainer: models, augmentation and the loop that ``leantrain train`` and ``compare`` run."""
