"""transformers: the experts of gpt-oss, ``GptOssExperts``, by each of its implementations (package transformers).

Domain. Alpha and limit are those of its configuration. It has no capacity. "grouped_mm" wants rows of a multiple of 16
bytes, so H and I are multiples of 8, and fewer than 1,024 groups. "eager" adds up the slots with ``index_add_``: on a
GPU its atomics take subnormal sums as 0 in fp32, and in bf16 each slot rounds. Its products are PyTorch's, which may
store parts of a sum in bf16. The second claim says both.
The whole layer is the project's own.
"""

from functools import partial

import torch
import transformers
from transformers.models.gpt_oss import GptOssConfig
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

from ._checks import Check
from ._layers import GPT_OSS_BY_SLOT

ANY = {"layers": [GPT_OSS_BY_SLOT]}
ROWS_OF_16_BYTES = ANY | {
    "hidden": {"multiple_of": 8},
    "intermediate": {"multiple_of": 8},
    "experts": {"max": 1023},
}


def moe(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    gate_up_proj_bias,
    down_proj,
    down_proj_bias,
    implementation="eager",
):
    experts, intermediate, hidden = down_proj.shape
    sizes = {"num_local_experts": experts, "hidden_size": hidden, "intermediate_size": intermediate}
    config = GptOssConfig(**sizes, num_hidden_layers=1)
    config._experts_implementation = implementation
    with torch.device("meta"):
        module = GptOssExperts(config)
    weights = {
        "gate_up_proj": gate_up_proj,
        "gate_up_proj_bias": gate_up_proj_bias,
        "down_proj": down_proj,
        "down_proj_bias": down_proj_bias,
    }
    for name, weight in weights.items():
        setattr(module, name, torch.nn.Parameter(weight, requires_grad=False))
    return module(hidden_states.flatten(0, 1), router_indices, routing_weights).view_as(hidden_states)


def check(implementation, precision, domain=ANY):
    function = partial(moe, implementation=implementation)
    name = f"transformers {implementation} {precision}"
    return Check(name, transformers.__version__, function, precision, domain, on_cpu=True)


CHECKS = [
    check("eager", "fp32+flush"),
    check("eager", "bf16"),
    check("eager", "bf16+slots-in-element+partials-in-element"),
    check("batched_mm", "fp32"),
    check("batched_mm", "bf16"),
    check("grouped_mm", "fp32", ROWS_OF_16_BYTES),
    check("grouped_mm", "bf16", ROWS_OF_16_BYTES),
    check("grouped_mm", "f16", ROWS_OF_16_BYTES),
]
