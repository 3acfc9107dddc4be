"""JAX: ``jax.lax.ragged_dot``, once for each of the two products (package jax).

Domain. It has no capacity. In fp32 it is called with the precision HIGHEST. XLA compiles each number of tokens too:
only some are drawn.
Sort, activation and weighted sum are JAX's other functions, compiled with it.
"""

import os
from functools import partial

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp

from ._checks import Check
from ._layers import IN_OUT


@partial(jax.jit, static_argnames="precision")
def layer(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj, precision):
    ids, (_, top_k) = router_indices.flatten(), router_indices.shape
    order, counts = jnp.argsort(ids, stable=True), jnp.bincount(ids, length=len(down_proj))
    rows = hidden_states.reshape(-1, hidden_states.shape[2])[order // top_k]
    gate, up = jnp.split(jax.lax.ragged_dot(rows, gate_up_proj, counts, precision=precision), 2, axis=1)
    rows = jax.lax.ragged_dot(jax.nn.silu(gate) * up, down_proj, counts, precision=precision)
    slots = jnp.zeros_like(rows).at[order].set(rows).reshape(*router_indices.shape, -1)
    return (slots * routing_weights[:, :, None]).sum(axis=1).reshape(hidden_states.shape)


def moe(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj, precision=None):
    return layer(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj, precision)


def check(kind, precision):
    domain = {"layers": [IN_OUT], "tokens": {"one_of": [1, 7, 48, 129]}}
    function = partial(moe, precision=precision)
    return Check(
        f"jax ragged_dot {kind}",
        jax.__version__,
        function,
        kind,
        domain,
        arrays="jax",
        shapes=4,
        shrink_budget=30,
        on_cpu=True,
    )


CHECKS = [check("fp32", jax.lax.Precision.HIGHEST), check("bf16", None)]
