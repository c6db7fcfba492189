"""The ablation: a variant changes one thing, a finished one is kept, the table compares frame by frame."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

import ablation
from ablation import METHOD, SCORES, VARIANTS, Settings, compared, markdown, run, scores_path
from depthsr.checkpoint import load_model, write_json
from depthsr.config import MODEL_CHOICES, ModelConfig, TrainConfig
from depthsr.types import UserError

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = dataclasses.replace(ablation.SMALL, widths=(8, 8, 8, 8), depth_blocks=(1, 1, 1, 1))


@pytest.fixture
def settings(random_frames) -> Settings:
    folder = random_frames(4, scenes=2)
    return Settings(str(folder), steps=2, batch=1, crop=32, workers=0, limit=2, device="cpu")


def test_two_variants_from_start_to_table(settings, tmp_path, monkeypatch):
    out = tmp_path / "out"
    result = run(settings, out, [METHOD, "no-relative"], TINY)
    method, other = result["rows"]
    assert [row["variant"] for row in result["rows"]] == [METHOD, "no-relative"]
    assert method["ratio"]["rmse"]["value"] == pytest.approx(1)
    assert other["ratio"]["rmse"]["value"] == pytest.approx(other["rmse"] / method["rmse"])
    stems, heads = (1 + 4) * 8 * 16, 4 * 2 * (8 + 1)  # relative depth, and two maps of it aligned; their candidates
    assert other["parameters"] == method["parameters"] - stems - heads
    assert (out / "ablation.md").read_text() == markdown(result) + "\n"
    assert json.loads((out / "ablation.json").read_text())["rows"][1]["rmse"] == other["rmse"]
    start, other_start = (load_model(out / variant / "start").state_dict() for variant in (METHOD, "no-relative"))
    differing = [name for name in start if not torch.equal(start[name], other_start[name])]
    stems_and_head = ("relative_stem.weight", "depth_stem.weight", "choice_head.weight", "choice_head.bias")
    assert differing == [f"unet.{name}" for name in stems_and_head]
    trained = load_model(out / METHOD / "run" / "model").state_dict()
    assert not torch.equal(trained["unet.residual_head.bias"], start["unet.residual_head.bias"])

    def refuse(*args, **kwargs):
        raise AssertionError("a finished variant is trained again")

    monkeypatch.setattr(ablation, "train", refuse)
    again = run(settings, out, [METHOD], TINY)  # the table keeps what it had
    assert [row["rmse"] for row in again["rows"]] == [row["rmse"] for row in result["rows"]]
    with pytest.raises(AssertionError, match="trained again"):
        run(settings, out, ["no-rgb"], TINY)
    with pytest.raises(UserError, match="another seed, steps"):
        run(dataclasses.replace(settings, steps=3, seed=1), out, [METHOD], TINY)


def test_every_variant_changes_one_thing():
    changes = [model | training for _, model, training in VARIANTS.values()]
    assert changes[0] == {}
    # `relative` goes with a model that takes none: its training must not ask for it.
    assert all(len(change.keys() - {"relative"}) == 1 for change in changes[1:])
    assert len({str(change) for change in changes}) == len(VARIANTS)
    assert len({title for title, _, _ in VARIANTS.values()}) == len(VARIANTS)
    tried = {(field, word) for _, model, _ in VARIANTS.values() for field, word in model.items()}
    assert {(field, word) for field, words in MODEL_CHOICES.items() for word in words[1:]} <= tried
    for _, model, training in VARIANTS.values():
        assert isinstance(dataclasses.replace(TINY, **model), ModelConfig)
        assert isinstance(TrainConfig(data="", out="", **training), TrainConfig)


def test_ratios_are_taken_frame_by_frame(settings, tmp_path):
    """A variant that is 10 % worse on every frame is 10 % worse on every draw of them, however the frames differ."""
    frames = np.array([1.0, 20.0, 3.0, 7.0])
    for variant, factor in ((METHOD, 1.0), ("concatenation", 1.1)):
        per_frame = {score: list(factor * frames) for score in SCORES}
        if variant == METHOD:
            per_frame["edge_rmse"] = [None] * 4
        scores = {"parameters": 1234567, "scenes": {"ais": list("abcd")}, "per_frame": {"ais": per_frame}}
        write_json(scores_path(tmp_path, variant), scores)
    result = compared(settings, tmp_path)
    method, other = result["rows"]
    assert other["ratio"]["mae"]["value"] == pytest.approx(1.1)
    np.testing.assert_allclose(other["ratio"]["mae"]["ci"], 1.1)
    assert other["ci"]["mae"][1] - other["ci"]["mae"][0] > 5
    assert method["edge_rmse"] is None
    lines = markdown(result).splitlines()
    assert lines[4].startswith("| the method | 1.235 M | 7.750 [")
    assert " | – | " in lines[4]
    assert lines[5].endswith("| 1.100 [1.100, 1.100] | 1.100 [1.100, 1.100] |")
