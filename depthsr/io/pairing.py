"""Which picture belongs to which depth map: FILE with FILE, or DIR and GLOB by name."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from depthsr.config import DEPTH_SUFFIXES
from depthsr.io.rgb import RGB_SUFFIXES
from depthsr.types import UserError


@dataclass(frozen=True)
class Inputs:
    """One frame's files and the name its outputs get."""

    name: str
    rgb: Path
    depth: Path
    relative: Path | None = None


def pair_inputs(rgb: str, depth: str, relative: str | None = None) -> list[Inputs]:
    """Frames in order of their names. A frame takes the picture's name, or what the wildcards stand for if that is not
    unique (*/rgb.png).

    Each argument is a file, a folder, or a pattern with * or ?. A file goes with a file, whatever their names.
    Otherwise names must agree: the file name without its suffix, or else what the wildcards stand for (rgb_*.jpg with
    depth_mm_*.png pairs rgb_0.jpg with depth_mm_0.png).

    Raises UserError for a missing path, an empty match, and files left without a partner (named in the message).
    """
    sources = {"--rgb": expand(rgb, RGB_SUFFIXES, "--rgb"), "--depth": expand(depth, DEPTH_SUFFIXES, "--depth")}
    if relative is not None:
        sources["--relative"] = expand(relative, RGB_SUFFIXES + DEPTH_SUFFIXES, "--relative")
    if all(Path(argument).is_file() for argument in (rgb, depth, relative) if argument is not None):
        return [Inputs(Path(rgb).stem, *(paths[0][1] for paths in sources.values()))]

    by_stem = {option: {path.stem: path for _, path in found} for option, found in sources.items()}
    by_wildcard = {option: {key.replace("/", "_"): path for key, path in found} for option, found in sources.items()}
    paths = next((list(index.values()) for index in (by_stem, by_wildcard) if _agree(index, sources)), None)
    if paths is None:
        raise UserError(_unmatched(sources))
    unique = len(set(by_stem["--rgb"])) == len(sources["--rgb"])
    return [Inputs(path.stem if unique else key, *(p[key] for p in paths)) for key, path in sorted(paths[0].items())]


def expand(argument: str, suffixes: tuple[str, ...], option: str) -> list[tuple[str, Path]]:
    """(key, path) of every file that a file's name, a folder or a pattern means, in order.

    The key is what the wildcards stand for, or the stem. Raises UserError, naming `option`, when there is none.
    """
    path = Path(argument)
    if path.is_dir():
        found = [(p.stem, p) for p in sorted(path.iterdir()) if p.suffix.lower() in suffixes and p.name[0] != "."]
        if not found:
            raise UserError(f"{option} {path} holds no file ending in {', '.join(suffixes)}; name the right folder.")
        return found
    if path.exists():
        return [(path.stem, path)]
    if not glob.has_magic(argument):
        raise UserError(f"{option} {path} does not exist; check the path.")
    paths = [Path(p) for p in sorted(glob.glob(argument, recursive=True)) if Path(p).is_file()]
    if not paths:
        raise UserError(
            f"{option} {argument} matches no file; check the pattern, and quote it so the shell leaves it alone."
        )
    pattern = _wildcards(argument)
    matches = [(pattern.fullmatch(str(path)), path) for path in paths]
    # A character class ([0-9]) is no wildcard here and matches nothing: the stem is the key then.
    keys = ["_".join(filter(None, match.groups())) if match else "" for match, _ in matches]
    return [(key or path.stem, path) for key, (_, path) in zip(keys, matches, strict=True)]


def _wildcards(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression with a group for each wildcard."""
    groups = {"**/": r"(?:(.*)/)?", "*": r"([^/]*)", "?": r"([^/])"}
    parts = re.split(r"(\*\*/|\*|\?)", str(Path(pattern)))
    return re.compile("".join(groups.get(part, re.escape(part)) for part in parts))


def _agree(index: dict[str, dict[str, Path]], sources: dict[str, list[tuple[str, Path]]]) -> bool:
    """Whether every option has the same keys, and each key only one file."""
    unique = all(len(index[option]) == len(found) for option, found in sources.items())
    return unique and all(set(paths) == set(index["--rgb"]) for paths in index.values())


def _unmatched(sources: dict[str, list[tuple[str, Path]]]) -> str:
    """The sentence for names that do not agree: which files have no partner, or which share a name."""
    stems = {option: [path.stem for _, path in found] for option, found in sources.items()}
    for option, names in stems.items():
        if twice := sorted({name for name in names if names.count(name) > 1}):
            return f"{option} holds several files named {_some(twice)}; choose one kind with a pattern such as '*.png'."
    parts = []
    for option, other in [(a, b) for a in stems for b in stems if a != b]:
        if alone := sorted(set(stems[option]) - set(stems[other])):
            parts.append(f"{option} {_some(alone)} without {other} of that name")
    return f"the files cannot be paired by name: {'; '.join(parts)}; rename them, or use patterns such as 'rgb_*.png'."


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
