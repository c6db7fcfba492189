"""Several folders trained on as one, for example a large rendered set and a few frames of one's own camera."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from depthsr.data.dataset import Frame, FrameDataset

log = logging.getLogger(__name__)


class Mixture(FrameDataset):
    """The frames of `first`, and for training those of `extra` too, each frame as likely as any other.

    What is validated on comes from `first` alone. An extra folder that states its own split gives its training part,
    any other all of its frames. A frame of the i-th extra folder (from 1) is called "i:NAME", its scene "i:SCENE".
    Whether an extra folder shows a place that is validated on cannot be seen; where the names say so, it is told.
    """

    has_own_split = True

    def __init__(self, first: FrameDataset, extra: Sequence[FrameDataset]):
        self._first, self._extra = first, extra
        self.lr_protocol = first.lr_protocol  # what is validated on; no measurement is trained on
        self._source = {name: (first, name) for name in first.names}
        for number, folder in enumerate(extra, start=1):
            names = folder.split("train") if folder.has_own_split else folder.names
            self._source |= {f"{number}:{name}": (folder, name) for name in names}
        super().__init__(first.folder, list(self._source))

    def scene(self, name: str) -> str:
        folder, own_name = self._source[name]
        return name.removesuffix(own_name) + folder.scene(own_name)

    def read(self, name: str) -> Frame:
        folder, own_name = self._source[name]
        return folder.read(own_name)

    def split(self, part: str) -> list[str]:
        names = self._first.split(part)
        if part == "val":
            return names
        self._tell_shared_scenes()
        return [*names, *self.names[len(self._first.names) :]]

    def last(self, count: int) -> list[str]:
        return self._first.last(count)

    def _tell_shared_scenes(self) -> None:
        validated = {self._first.scene(name) for name in self._first.split("val")}
        for folder in self._extra:
            trained_on = {folder.scene(name) for source, name in self._source.values() if source is folder}
            if shared := sorted(validated & trained_on):
                log.warning(
                    "%s has a scene called %r, as those that are validated on; if it is the same place, the scores "
                    "while training say nothing.", folder.folder, shared[0],
                )  # fmt: skip
