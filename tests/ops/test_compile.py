"""torch.compile and torch.export: no graph breaks, same values and gradients, any size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from depthsr import ops
from depthsr.ops import reference


class AllOps(nn.Module):
    """A toy network that uses every op once."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(8, generator=generator))
        self.bias = nn.Parameter(torch.randn(8, generator=generator))

    def forward(self, x_BCHW, target_B1HW, valid_B1HW, implementation=ops):
        y = implementation.layer_norm_2d(x_BCHW, self.weight, self.bias)
        y = implementation.adain(implementation.simple_gate(y), x_BCHW[:, :4])
        return implementation.sobel_l1_loss(y[:, :1], target_B1HW, valid_B1HW)


def batch(random_image, height, width):
    target = random_image((2, 1, height, width), seed=1)
    return random_image((2, 8, height, width)).requires_grad_(), target, target > -1


@pytest.mark.parametrize("name", ["auto", "native"])
def test_compiles_whole_for_any_size(name, random_image, request):
    if name == "native":
        request.getfixturevalue("native")
    model = AllOps()
    torch._dynamo.reset()
    graphs = []
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    with ops.backend(name):
        for height, width in ((6, 9), (17, 12), (31, 8)):
            inputs = batch(random_image, height, width)
            leaves = [inputs[0], model.weight, model.bias]
            loss = compiled(*inputs)
            expected = model(*inputs, implementation=reference)
            torch.testing.assert_close(loss, expected)
            results = torch.autograd.grad(loss, leaves)
            for result, wanted in zip(results, torch.autograd.grad(expected, leaves), strict=True):
                torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-5)
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs == graphs[:1] * 3, "a new size must not compile again"


@pytest.mark.usefixtures("native")
def test_what_is_compiled_is_not_taken_for_exported(random_image):
    """Its graph has the kernels; of an exported one the test below says that it has none."""
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    with ops.backend("native"):
        torch.compile(AllOps(), fullgraph=True, backend=keep)(*batch(random_image, 6, 9))
    targets = {str(node.target) for graph in graphs for node in graph.graph.nodes}
    assert {target for target in targets if "sobel_l1_loss" in target and "depthsr" in target}


@pytest.mark.parametrize("name", ["auto", "native"])
def test_exports_to_torchs_own_operators(name, random_image):
    """ONNX and AOTInductor need no custom op, whatever is built or forced."""
    model = AllOps().eval()
    inputs = batch(random_image, 6, 9)
    # From 4 on: the loss's interior of a 3-pixel side is one pixel wide, and export treats size 1 apart.
    height, width = torch.export.Dim("height", min=4), torch.export.Dim("width", min=4)
    sizes = tuple({2: height, 3: width} for _ in inputs)
    with ops.backend(name):
        program = torch.export.export(model, inputs, dynamic_shapes=sizes)
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not [target for target in targets if "depthsr" in target]
    other = batch(random_image, 11, 7)
    torch.testing.assert_close(program.module()(*other), model(*other, implementation=reference))
