"""What is said once and not again at each frame of a stream."""

from __future__ import annotations

import logging
from collections.abc import Hashable

_told: set[Hashable] = set()


def warn_once(logger: logging.Logger, about: Hashable, message: str, *arguments: object) -> None:
    """logger.warning(message, *arguments), the first time in this process that it is about `about`."""
    if about not in _told:
        _told.add(about)
        logger.warning(message, *arguments)
