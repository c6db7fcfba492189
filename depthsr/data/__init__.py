"""Datasets on disk, degradation, augmentation. numpy, no torch."""
