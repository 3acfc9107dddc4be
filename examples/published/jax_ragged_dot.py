"""JAX: jax.lax.ragged_dot, once for each of the two products, as installed (tried: 0.11.2).

    jax_ragged_dot.py fp32|bf16

Domain. It has no capacity. In fp32 it is called with the precision HIGHEST.
Sort, biases, activation and weighted sum are the adapter's, in PyTorch; tensors are shared without a copy. XLA compiles
each shape. Its memory is not filled with NaN before a call.
"""

import os
import sys

os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"

from adapter import serve

import jax
import torch

TYPE = sys.argv[1]
DOMAIN = {"precision": [TYPE], "tokens": {"min": 1}, "drops": False}
PRECISION = jax.lax.Precision.HIGHEST if TYPE == "fp32" else None


def ragged_dot(x, weights, counts):
    torch.cuda.synchronize()
    operands = [jax.dlpack.from_dlpack(tensor.contiguous()) for tensor in (x, weights, counts)]
    output = jax.lax.ragged_dot(*operands, precision=PRECISION).block_until_ready()
    return torch.from_dlpack(output).clone()


def pack(weights):
    return weights


def forward(case, weights):
    order, experts, counts = case.by_expert()
    counts = counts.int()
    gate_up = ragged_dot(case.x[order // case.top_k], weights.gate_up_proj, counts) + weights.gate_up_proj_bias[experts]
    rows = ragged_dot(case.activate(gate_up), weights.down_proj, counts) + weights.down_proj_bias[experts]
    return case.combine(rows, order)


serve(f"jax-ragged_dot-{TYPE}-{jax.__version__}", DOMAIN, pack, forward)
