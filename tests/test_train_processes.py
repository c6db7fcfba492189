"""Training on several processes is what one does with as many micro-batches, and goes on on another number of them."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch

from depthsr import checkpoint
from depthsr.batches import collate
from depthsr.config import TrainConfig
from depthsr.data.degrade import Degraded
from depthsr.data.pairs import Sample
from depthsr.models.network import DepthSR
from depthsr.resume import resumed_accumulate
from depthsr.train import add_gradients, averaging, data_parallel, train

pytestmark = pytest.mark.usefixtures("one_thread")


def trained(out):
    """The weights at the end of a run, not their average."""
    return torch.load(out / "checkpoint.pt", weights_only=True)["model"]


def assert_trained_alike(ours, theirs, untrained):
    """Apart by a ten thousandth of how far they came. Not weight by weight: AdamW divides by a gradient's own size,
    so where one nearly vanishes, the rounding of sums in another order shows.
    """
    assert ours.keys() == theirs.keys()

    def distance(a, b):
        return torch.stack([(a[name] - b[name]).square().sum() for name in a]).sum().sqrt()

    assert distance(ours, theirs) <= 1e-4 * distance(theirs, untrained)


def test_two_processes_train_as_one_and_one_goes_on_for_two(short_training, tmp_path, caplog):
    """torchrun on gloo: the weights are those of one process that takes both micro-batches at once; resumed from the
    middle by one process, which then takes them one after the other, they are the same again.
    """
    config = dataclasses.replace(short_training, steps=6, batch=2, warmup_steps=1, final_fraction=0.0)
    train(config)
    expected = trained(tmp_path / "run")
    untrained = checkpoint.new_or_saved_model(config.preset).state_dict()

    two = dataclasses.replace(config, batch=1, out=str(tmp_path / "two"), checkpoint_minutes=0)
    script = tmp_path / "two.py"
    script.write_text(
        "import shutil\nfrom depthsr import checkpoint\nfrom depthsr.config import TrainConfig\n"
        "from depthsr.train import train\nsave = checkpoint.save_training_state\n"
        "def save_twice(state, path):\n"
        "    save(state, path)\n"
        "    if state['step'] == 3:\n"
        "        shutil.copy(path, path.parent / 'step3.pt')\n"
        "checkpoint.save_training_state = save_twice\n"
        f"train({two!r})\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    finished = subprocess.run(
        [sys.executable, *launcher, str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=600,
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert_trained_alike(trained(tmp_path / "two"), expected, untrained)

    (tmp_path / "two" / "step3.pt").rename(tmp_path / "two" / "checkpoint.pt")
    with caplog.at_level(logging.INFO, "depthsr"):
        train(two, resume=True)
    assert [record.getMessage() for record in caplog.records] == [
        "resumed on 1 processes, begun on 2: --accumulate is 2 now, and the samples of each step stay the same"
    ]
    assert_trained_alike(trained(tmp_path / "two"), expected, untrained)


def test_depth_anything_trains_on_several_processes(tmp_path, monkeypatch, tiny_base_config):
    """In two micro-batches, twice, as parameters that are never used would show in the second forward pass."""
    torch.manual_seed(0)
    model = DepthSR(tiny_base_config)
    model.add_depth_anything()
    torch.nn.init.normal_(model.unet.residual_head.weight, std=0.1)
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(2):
        low_m, target_m = rng.uniform(2, 9, (8, 8)), rng.uniform(2, 9, (32, 32))
        degraded = Degraded(low_m.astype(np.float32), low_m.astype(np.float32), 0.0, None, "classical")
        batches.append(collate([Sample(rng.random((32, 32, 3), np.float32), degraded, target_m.astype(np.float32))]))
    config = TrainConfig("", "")
    for batch in batches:
        add_gradients(model, batch, config, (0.5, 0.5))
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert sum(name.startswith("depth_anything.") and bool(grad.any()) for name, grad in expected.items()) > 50
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        parallel = data_parallel(model)
        for _ in range(2):
            model.zero_grad()
            for batch in batches:
                with averaging(parallel, batch is batches[-1]):
                    add_gradients(parallel, batch, config, (0.5, 0.5))
            for name, gradient in expected.items():
                torch.testing.assert_close(model.get_parameter(name).grad, gradient, rtol=1e-4, atol=1e-6)
    finally:
        torch.distributed.destroy_process_group()


def test_another_number_of_processes_keeps_the_samples_of_a_step_where_it_divides_them(caplog):
    config = TrainConfig("", "", batch=3, accumulate=2)
    begun = {"world": 4, "accumulate": 3}
    with caplog.at_level(logging.INFO, "depthsr"):
        assert resumed_accumulate(config, 4, begun) == 2
        assert caplog.records == []
        assert [resumed_accumulate(config, world, begun) for world in (1, 2, 3, 6, 12)] == [12, 6, 4, 2, 1]
        caplog.clear()
        assert resumed_accumulate(config, 5, begun) == 2
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "resumed on 5 processes, begun on 4: a step takes 30 samples from now on, not 36")
    ]
