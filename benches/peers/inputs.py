"""The seed's workloads and inputs drawn from its distributions."""

from dataclasses import dataclass

import torch

TOP_K = 2
SEED = 0


@dataclass(frozen=True)
class Workload:
    """Sizes of one call: T = batch * sequence tokens, H hidden, I intermediate, E experts, K experts a token."""

    device: str
    batch: int
    sequence: int
    hidden: int
    intermediate: int
    experts: int
    top_k: int = TOP_K

    @property
    def name(self):
        return f"{self.device}_B{self.batch}_S{self.sequence}_E{self.experts}"

    @property
    def tokens(self):
        return self.batch * self.sequence

    @property
    def rows(self):
        """R: assignments of a token to an expert. None is dropped."""
        return self.tokens * self.top_k

    @property
    def capacity(self):
        """C: rows that an expert may take. This many can drop nothing, even if all go to one expert."""
        return self.rows

    @property
    def operations(self):
        """Operations of the two products: 2·R·H·3I."""
        return 2 * self.rows * self.hidden * 3 * self.intermediate

    def sizes(self):
        """Fields of a record, in the order of the function's parameters."""
        return {
            "T": self.tokens,
            "H": self.hidden,
            "I": self.intermediate,
            "E": self.experts,
            "K": self.top_k,
            "C": self.capacity,
        }


def of_seed(device):
    """The seed's eight, in its order."""
    return _grid(device, (512, 1024), 2880)


def tiny(device):
    """As many small ones, to run the code in a moment."""
    return _grid(device, (16, 32), 48)


def _grid(device, sequences, width):
    return [
        Workload(device, batch, sequence, width, width, experts)
        for batch in (1, 4)
        for sequence in sequences
        for experts in (2, 4)
    ]


@dataclass(frozen=True)
class Weights:
    """Weights of the experts, fp32."""

    gate_up: torch.Tensor  # [E, H, 2I], gate in even columns, up in odd ones
    gate_up_bias: torch.Tensor  # [E, 2I]
    down: torch.Tensor  # [E, I, H]
    down_bias: torch.Tensor  # [E, H]

    @staticmethod
    def draw(workload):
        """Projections 0.1·randn, biases 0.01·randn; the same for every workload of these sizes."""
        H, I, E = workload.hidden, workload.intermediate, workload.experts
        normal = _normal(workload.device, SEED + E)
        return Weights(
            normal(0.1, E, H, 2 * I),
            normal(0.01, E, 2 * I),
            normal(0.1, E, I, H),
            normal(0.01, E, H),
        )


@dataclass(frozen=True)
class Inputs:
    """What a peer is given."""

    workload: Workload
    weights: Weights
    tokens: torch.Tensor  # [T, H] fp32
    experts: torch.Tensor  # [T, K] int64
    routing_weights: torch.Tensor  # [T, E] fp32
    scales: torch.Tensor  # [T, K] fp32: the routing weight of each of a token's experts

    @staticmethod
    def draw(workload, weights):
        """Tokens 0.1·randn; experts uniform and independent, so that a token can have one twice; routing weights the
        softmax over the experts of uniform numbers."""
        T, H, E, K = workload.tokens, workload.hidden, workload.experts, workload.top_k
        seed = SEED + 1000 * T + E
        generator = torch.Generator(workload.device).manual_seed(seed)
        experts = torch.randint(0, E, (T, K), device=workload.device, generator=generator)
        uniform = torch.rand(T, E, device=workload.device, generator=generator)
        routing_weights = torch.softmax(uniform, dim=1)
        return Inputs(
            workload,
            weights,
            _normal(workload.device, seed + 1)(0.1, T, H),
            experts,
            routing_weights,
            routing_weights.gather(1, experts),
        )


def _normal(device, seed):
    generator = torch.Generator(device).manual_seed(seed)

    def draw(deviation, *shape):
        return torch.randn(*shape, device=device, generator=generator).mul_(deviation)

    return draw
