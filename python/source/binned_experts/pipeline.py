"""Our kernels on tensors of torch, which has to be installed."""

from __future__ import annotations

import torch

from . import _native

# Names of torch's types in the native module.
TYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}


class Pipeline:
    """gpt-oss style binned experts on an NVIDIA GPU, with the weights of one layer.

    A call launches kernels on torch's current stream and waits for nothing. It can be captured in a CUDA graph once it was
    made with as many tokens; the graph uses memory of this object, which has to live as long.

    Parameters
    ----------
    gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias
        ``[E,H,2I]``, even columns gate and odd columns up; ``[E,2I]``; ``[E,I,H]``; ``[E,H]``: contiguous, on one GPU,
        of ``torch.float32``, or of ``torch.bfloat16`` with H and I multiples of 8 and E up to 512. They are packed here,
        and are not to be changed later.
    activation, alpha, limit
        ``"clamped-swiglu"``, ``"silu"`` or ``"clamped-silu"``, and its parameters, where it has them.
    scale
        A factor on the sum over the slots.
    first_expert
        The id of the first of the E experts. A slot with an id of none of them, such as -1, adds nothing.
    batch_invariant
        Whether a token's row has the same bits in any batch. In ``torch.bfloat16`` it always has.

    Raises
    ------
    TypeError, ValueError
        For a tensor of another kind, type, device or shape.
    RuntimeError
        Where the kernels do not run on the device, or its memory is too small.
    """

    def __init__(
        self,
        gate_up_proj: torch.Tensor,
        gate_up_proj_bias: torch.Tensor,
        down_proj: torch.Tensor,
        down_proj_bias: torch.Tensor,
        *,
        activation: str = "clamped-swiglu",
        alpha: float = 1.702,
        limit: float = 7.0,
        scale: float = 1.0,
        first_expert: int = 0,
        batch_invariant: bool = False,
    ) -> None:
        experts, hidden, wide = shape_of("gate_up_proj", gate_up_proj, 3)
        self._device, self._dtype = gate_up_proj.device, gate_up_proj.dtype
        if self._device.type != "cuda":
            raise ValueError(f"gate_up_proj: expected a tensor on a GPU, found one on {self._device}")
        if self._dtype not in TYPES:
            raise ValueError(f"gate_up_proj: expected one of {', '.join(map(str, TYPES))}; found {self._dtype}")
        if wide % 2:
            raise ValueError(f"gate_up_proj: expected an even number of columns, found {wide}")
        self._sizes = hidden, wide // 2, experts
        self._weights = (
            self._expected("gate_up_proj", gate_up_proj, (experts, hidden, wide)),
            self._expected("gate_up_proj_bias", gate_up_proj_bias, (experts, wide)),
            self._expected("down_proj", down_proj, (experts, wide // 2, hidden)),
            self._expected("down_proj_bias", down_proj_bias, (experts, hidden)),
        )
        self._stream = torch.cuda.current_stream(self._device)
        addresses = [weight.data_ptr() for weight in self._weights]
        place = self._device.index, self._stream.cuda_stream
        layer = (activation, alpha, limit), scale, first_expert, batch_invariant
        self._kernels = _native.Kernels(TYPES[self._dtype], addresses, self._sizes, place, *layer)
        if self.path == "hopper_bf16":
            # Read already: what gets their memory next is behind the kernels that packed them.
            self._weights = ()

    @property
    def path(self) -> str:
        """The kernels that serve the weights: ``hopper_fp32``, ``hopper_bf16`` or ``portable_fp32``."""
        return self._kernels.path

    def __call__(
        self,
        hidden_states: torch.Tensor,
        router_indices: torch.Tensor,
        routing_weights: torch.Tensor,
        expert_capacity: int | None = None,
    ) -> torch.Tensor:
        """The output, of the shape of ``hidden_states``.

        Parameters
        ----------
        hidden_states, routing_weights
            ``[…,H]`` and ``[…,E]``, of the weights' type.
        router_indices
            ``[T,K]``, of ``torch.int64``.
        expert_capacity
            How many assignments an expert keeps; without it, all.
        """
        hidden, _, experts = self._sizes
        *batch, _ = shape_of("hidden_states", hidden_states)
        _, top_k = shape_of("router_indices", router_indices, 2)
        tokens = torch.Size(batch).numel()
        output = torch.empty_like(hidden_states)
        tensors = (
            self._expected("hidden_states", hidden_states, (*batch, hidden)),
            self._expected("router_indices", router_indices, (tokens, top_k), torch.int64),
            self._expected("routing_weights", routing_weights, (*batch, experts)),
            output,
        )
        capacity = tokens * top_k if expert_capacity is None else expert_capacity
        stream = torch.cuda.current_stream(self._device)
        if stream != self._stream:
            # What is captured starts from an idle device, and may not wait for what is not.
            if not torch.cuda.is_current_stream_capturing():
                stream.wait_stream(self._stream)
            self._stream = stream
        addresses = [tensor.data_ptr() for tensor in tensors]
        self._kernels.forward(addresses, (tokens, top_k, capacity), stream.cuda_stream)
        return output

    def _expected(self, name, value, shape, dtype=None):
        """The tensor, if it is as the kernels read it."""
        shape_of(name, value, len(shape))
        for what, found, expected in (
            ("device", value.device, self._device),
            ("type", value.dtype, dtype or self._dtype),
            ("shape", tuple(value.shape), shape),
        ):
            if found != expected:
                raise ValueError(f"{name}: expected the {what} {expected}, found {found}")
        if not value.is_contiguous():
            raise ValueError(f"{name}: expected a contiguous tensor, found strides {value.stride()}")
        return value


def shape_of(name, value, axes=None):
    """The shape of a tensor of so many axes, or of one or more."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, found {type(value).__name__}")
    if value.dim() != axes if axes else not value.dim():
        raise ValueError(f"{name}: expected a tensor of {axes or 'one or more'} axes, found {value.dim()}")
    return tuple(value.shape)
