"""Readers of image data sets, one file a format."""
