"""The sizes that a benchmark runs at."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class KernelTypeEnum(str, enum.Enum):
    """What a benchmark is of."""

    OPENAI_MOE = "openai_moe"


@dataclass(frozen=True)
class Workload:
    """Sizes of a call, named as in the records: B, S, E, H, 2I and K."""

    batch: int
    seq_len: int
    num_experts: int
    hidden_dim: int = 2880
    expert_dim: int = 5760
    top_k: int = 2

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name}: expected a whole number above 0, found {size!r}")
        if self.expert_dim % 2:
            raise ValueError(f"expert_dim: expected an even number, gates and ups, found {self.expert_dim}")

    @property
    def tokens(self) -> int:
        """T."""
        return self.batch * self.seq_len

    @property
    def intermediate(self) -> int:
        """I."""
        return self.expert_dim // 2

    def name(self, device: str) -> str:
        """The name on a device."""
        return f"{device}_B{self.batch}_S{self.seq_len}_E{self.num_experts}"

    def record(self, device: str, dtype: str) -> dict[str, object]:
        """The workload as a record has it."""
        return {
            "name": self.name(device),
            "batch": self.batch,
            "seq_len": self.seq_len,
            "hidden_dim": self.hidden_dim,
            "expert_dim": self.expert_dim,
            "num_experts": self.num_experts,
            "top_k": self.top_k,
            "dtype": dtype,
            "device": device,
        }


# Those of the seed, in its order.
OF_SEED = tuple(
    Workload(batch, seq_len, num_experts) for batch in (1, 4) for seq_len in (512, 1024) for num_experts in (2, 4)
)
