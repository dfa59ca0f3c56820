"""Image classification: models, augmentation, accuracy."""
