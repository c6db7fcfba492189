"""Datasets on disk, degradation, augmentation. numpy; torch only inside the training Dataset of `pairs`."""
