"""Going on with a training run: with the settings it was begun with, on as many processes as there are now."""

from __future__ import annotations

import dataclasses
import logging

from depthsr.config import TrainConfig
from depthsr.types import UserError

log = logging.getLogger(__name__)

#: Settings that may be others than at the begin: how long the run goes on, where and how its steps are computed, what
#: is written meanwhile. All others would make it another run.
MAY_CHANGE = frozenset(
    {
        "out", "steps", "epochs", "final_fraction",
        "device", "workers", "cache_frames", "compile", "channels_last",
        "checkpoint_minutes", "validate_steps",
    }
)  # fmt: skip


def resumed_config(config: TrainConfig, world: int, state: dict) -> TrainConfig:
    """The configuration to go on with from a training state on `world` processes.

    Raises UserError, naming them with their values then and now, for settings that must be as the run was begun with.
    A state of an older depthsr knows `only` alone of them.
    """
    begun, now = state.get("config", {"only": state.get("only")}), dataclasses.asdict(config)
    # On another number of processes it is chosen below.
    free = MAY_CHANGE if world == state["world"] else MAY_CHANGE | {"accumulate"}
    other = [name for name in now if name in begun and name not in free and begun[name] != now[name]]
    if other:
        said = ", ".join(f"{name} {begun[name]!r} (now {now[name]!r})" for name in other)
        raise UserError(f"{config.out} was begun with {said}; resume it with that, or name another folder.")
    return dataclasses.replace(config, accumulate=resumed_accumulate(config, world, state))


def resumed_accumulate(config: TrainConfig, world: int, state: dict) -> int:
    """Micro-batches for each process of a resumed run: as many that the step's samples stay the same, where it can be.

    They cannot where the number of processes does not divide the step's micro-batches: then config.accumulate counts.
    """
    if world == state["world"]:
        return config.accumulate
    micro_batches = state["world"] * state["accumulate"]
    if micro_batches % world == 0:
        log.info(
            "resumed on %d processes, begun on %d: --accumulate is %d now, and the samples of each step stay the same",
            world, state["world"], micro_batches // world,
        )  # fmt: skip
        return micro_batches // world
    log.warning(
        "resumed on %d processes, begun on %d: a step takes %d samples from now on, not %d",
        world, state["world"], config.batch * config.accumulate * world, config.batch * micro_batches,
    )  # fmt: skip
    return config.accumulate
