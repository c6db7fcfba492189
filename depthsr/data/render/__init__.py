"""Synthetic scenes with exact depth. Scenes are numpy arrays from a seed; Mitsuba renders them (extra `render`)."""
