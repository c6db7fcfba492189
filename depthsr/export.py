"""A model as one ONNX file, for runtimes other than ours: whole frames of one size, from RGB and metres to metres."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from depthsr.checkpoint import load_model
from depthsr.config import PRESETS
from depthsr.inputs import check_sizes
from depthsr.io.atomic import atomic_path
from depthsr.models.baselines import BASELINES
from depthsr.models.network import DepthSR
from depthsr.torch_runtime import restore_on_device
from depthsr.types import FARTHEST_OVER_MEASURED, UserError

log = logging.getLogger(__name__)

#: Names in the file, in order; the last only of models that take relative depth.
INPUTS = ("rgb", "depth_m", "quantisation_step_m", "max_depth_m", "relative")
OUTPUTS = ("restored_depth_m", "error_m")

#: Elements of the largest constant that is worked out beforehand. Whole planes are not (the weights of a window over
#: a frame, tens of megabytes in all): runtimes work them out when they load the file.
LARGEST_CONSTANT = 4096

ABOUT = (
    "Sharp metric depth from RGB and poor depth. rgb: B×H×W×3 uint8. depth_m: B×h×w metres, no value where it is 0, "
    "NaN or inf. quantisation_step_m: B, metres between the sensor's levels, 0 = none or unknown. max_depth_m: B, the "
    "sensor's range in metres, beyond which there is no value, 0 = unknown. relative (models that take it): B×H×W, "
    "larger = nearer, any unit. "
    "restored_depth_m and error_m, the error the model expects: B×1×H×W metres."
)


class WholeFrame(nn.Module):
    """What a Predictor computes of checked frames, in tensors alone; but wide holes are filled as narrow ones are."""

    def __init__(self, model: DepthSR) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        rgb_BHW3: Tensor,
        depth_m_Bhw: Tensor,
        quantisation_step_m_B: Tensor,
        max_depth_m_B: Tensor,
        relative_BHW: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `restore_on_device`, but what is no value to a Predictor is none here, and no result nearer; frames of
        holes: 0.
        """
        farthest_m_B = FARTHEST_OVER_MEASURED * max_depth_m_B + quantisation_step_m_B / 2
        within_Bhw = (depth_m_Bhw <= farthest_m_B[:, None, None]) | (max_depth_m_B == 0)[:, None, None]
        valid_Bhw = (depth_m_Bhw > 0) & torch.isfinite(depth_m_Bhw) & within_Bhw
        depth_m_Bhw = torch.where(valid_Bhw, depth_m_Bhw, torch.nan)
        frames = rgb_BHW3, depth_m_Bhw, quantisation_step_m_B, max_depth_m_B, relative_BHW
        depth_m_B1HW, error_m_B1HW = restore_on_device(self.model, *frames)
        nearest_m_B = torch.where(valid_Bhw, depth_m_Bhw, torch.inf).flatten(1).amin(1)
        # Not where it is finite: to OpenVINO the inf above is the largest float.
        nearest_m_B = torch.where(valid_Bhw.flatten(1).any(1), nearest_m_B, 0.0)
        least_m_B = torch.maximum(0.5 * nearest_m_B - quantisation_step_m_B, 0.001 * nearest_m_B)
        return torch.maximum(depth_m_B1HW, least_m_B[:, None, None, None]), error_m_B1HW


@contextmanager
def _only_errors(logger: logging.Logger) -> Iterator[None]:
    """Of torch's exporter, which warns everyone whose installation lacks torchvision, where none is needed."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def export_onnx(
    name_or_path: str | Path, path: str | Path, size: tuple[int, int], low_size: tuple[int, int]
) -> tuple[str, ...]:
    """Writes the file and returns the names of its inputs; ABOUT says what they are, and is in the file too.

    name_or_path  "edge", "edge-s", "base" or the folder of a saved model. Depth Anything is left out: a model that
                  takes relative depth has it as an input.
    size          H, W of the RGB and of the result.
    low_size      h, w of the measurement.

    Batches of one, float32. Raises UserError for a model that does not exist, sizes that are of no frame, a file that
    cannot be written, and missing packages.
    """
    if name_or_path in BASELINES:
        raise UserError(
            f"{name_or_path} is a classical method and no network; export {', '.join(PRESETS)} or a folder."
        )
    path = Path(path)
    if path.suffix != ".onnx":
        raise UserError(f"{path} does not end in .onnx; name a file that does.")
    if min(*size, *low_size) < 1:
        raise UserError("a frame of no pixels cannot be exported; give widths and heights of at least 1.")
    check_sizes(size, low_size)
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"export needs {package}, which is missing; install it with `pip install '.[export]'`.")
    import onnxscript.optimizer

    model = load_model(name_or_path)
    inputs: tuple[Tensor, ...] = (torch.zeros(1, *size, 3, dtype=torch.uint8), torch.ones(1, *low_size))
    inputs += (torch.zeros(1), torch.zeros(1))
    if model.config.takes_relative:
        inputs += (torch.zeros(1, *size),)
    names = INPUTS[: len(inputs)]
    log.info("exporting %s takes about half a minute", name_or_path)
    with torch.no_grad(), _only_errors(logging.getLogger("torch.onnx")):
        program = torch.onnx.export(
            WholeFrame(model).eval(),
            inputs,
            input_names=names,
            output_names=OUTPUTS,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    onnxscript.optimizer.optimize(
        program.model,
        num_iterations=1,  # a second finds two nodes of 2400
        input_size_limit=LARGEST_CONSTANT,
        output_size_limit=LARGEST_CONSTANT,
    )
    program.model.doc_string = ABOUT
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with the paths of this machine: a fifth of the file
    with atomic_path(path) as temporary:
        program.save(temporary)
    return names
