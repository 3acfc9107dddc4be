"""vLLM: ``fused_experts_impl`` of its Triton experts, and ``moe_fused_mul_sum`` (unpacked wheel vllm; tried: 0.33.0).

Domain. For fp32 its products are Triton's ``tl.dot``, which rounds factors to TF32. It has no capacity.
Three files of fused_moe run as they stand; the modules around them are stand-ins. What is compiled in the package, the
rows of each tile, the activation and the sum over the slots, is PyTorch's; with "fused sum" the sum is the project's.
"""

import sys
from functools import partial
from types import SimpleNamespace

import torch
import triton

from ._checks import Check
from ._layers import GPT_OSS_OUT_IN
from ._sources import load, source, stand_in, version
from ._torch import align_tiles, swiglu

PROJECT = "vllm"
EXPERTS = "vllm.model_executor.layers.fused_moe"
# What the activation of a call is, and where its rows go before they are added up.
CALL = SimpleNamespace(alpha=None, limit=None, rows=None)


def activate(activation, output, gate_up):
    output.copy_(swiglu(gate_up, CALL.alpha, CALL.limit))


def sum_over_slots(rows, output):
    CALL.rows = rows
    torch.sum(rows, dim=1, out=output)


def no(*arguments, **options):
    return False


def device_name():
    return torch.cuda.get_device_name().replace(" ", "_")


def element_name(dtype, **options):
    return "float32" if dtype == torch.float32 else None


CUDA = SimpleNamespace(
    is_cuda=lambda: True,
    is_rocm=no,
    is_xpu=no,
    get_device_capability=lambda *device: torch.cuda.get_device_capability(),
)
OPERATIONS = SimpleNamespace(moe_align_block_size=align_tiles, moe_sum=sum_over_slots)
ENVIRONMENT = SimpleNamespace(VLLM_BATCH_INVARIANT=False, VLLM_TUNED_CONFIG_FOLDER=None)
MODULAR = SimpleNamespace(adjust_N_for_activation=staticmethod(lambda width, activation: width // 2))
UNQUANTISED = {
    "moe_kernel_quantize_input": lambda A, **options: (A, None),
    "resolve_moe_use_td": no,
    "warn_if_moe_use_td_ineffective": no,
    "enable_swap_ab": no,
}
stand_in("vllm", envs=ENVIRONMENT, _custom_ops=OPERATIONS)
stand_in("vllm.envs", **vars(ENVIRONMENT))
stand_in("vllm._custom_ops", **vars(OPERATIONS))
stand_in("vllm.logger", init_logger=lambda name: SimpleNamespace(warning_once=no, info_once=no, debug=no))
stand_in("vllm.platforms", current_platform=CUDA)
stand_in("vllm.triton_utils", tl=triton.language, triton=triton)
stand_in("vllm.triton_utils.allocation", set_triton_allocator=no)
stand_in("vllm.utils.math_utils", next_power_of_2=triton.next_power_of_2, round_up=lambda x, y: -(-x // y) * y)
stand_in("vllm.utils.platform_utils", get_device_name_as_file_name=device_name)
stand_in("vllm.utils.torch_utils", direct_register_custom_op=no)
stand_in(EXPERTS, get_config=lambda: None)
stand_in(f"{EXPERTS}.modular_kernel", FusedMoEExpertsModular=MODULAR)
stand_in(
    f"{EXPERTS}.activation",
    apply_moe_activation=activate,
    MoEActivation=SimpleNamespace(SILU="silu", from_str=lambda name: name),
)
stand_in(f"{EXPERTS}.config", _get_config_dtype_str=element_name)
stand_in(f"{EXPERTS}.utils", **UNQUANTISED)
for name in ("moe_align_block_size", "fused_moe", "moe_fused_mul_sum"):
    load(f"{EXPERTS}.{name}", source(PROJECT, f"{EXPERTS.replace('.', '/')}/{name}.py"))
file = sys.modules[f"{EXPERTS}.fused_moe"]
# The weights lie on the device.
file._weights_host_resident = no
moe_fused_mul_sum = sys.modules[f"{EXPERTS}.moe_fused_mul_sum"].moe_fused_mul_sum


def moe(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    gate_up_proj_bias,
    down_proj,
    down_proj_bias,
    alpha,
    limit,
    fused_sum=False,
):
    CALL.alpha, CALL.limit = alpha, limit
    x, ids, weights = hidden_states.flatten(0, 1), router_indices.int(), routing_weights.float()
    output = file.fused_experts_impl(
        x,
        gate_up_proj,
        down_proj,
        torch.ones_like(weights) if fused_sum else weights,
        ids,
        activation="swigluoai",
        w1_bias=gate_up_proj_bias,
        w2_bias=down_proj_bias,
    )
    if fused_sum:
        output = moe_fused_mul_sum(CALL.rows.contiguous(), weights, topk_ids=ids)
    return output.view_as(hidden_states)


def check(name, precision, **options):
    domain, function = {"layers": [GPT_OSS_OUT_IN]}, partial(moe, **options)
    return Check(f"vLLM {name} {precision}", version(PROJECT), function, precision, domain, shapes=8, shrink_budget=60)


CHECKS = [
    check("fused_experts", "tf32"),
    check("fused_experts", "bf16"),
    check("fused_experts, fused sum", "bf16", fused_sum=True),
]
