"""A call of a function with the arrays of a case, and the rules that it must keep."""

import inspect

from . import _rules
from ._arrays._memory import Memory

WEIGHTS = ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias")
ARRAYS = ("hidden_states", "router_indices", "routing_weights", *WEIGHTS, "sorted_indices")
NUMBERS = ("expert_capacity", "alpha", "limit")
# Only for a function that names them: blocks in place of projections, shared experts, and what kind of case it is.
BLOCKS = ("gate_up_proj_blocks", "gate_up_proj_scales", "down_proj_blocks", "down_proj_scales")
SHARED = ("shared_gate_up_proj", "shared_gate_up_proj_bias", "shared_down_proj", "shared_down_proj_bias")
KINDS = ("layer", "first_expert")
# What a call gets where its case has none: an explicit order, biases, projections of values or of blocks, shared
# experts, another layer, ids of other ranks.
ABSENT = dict.fromkeys(ARRAYS + BLOCKS + SHARED) | {"layer": {}, "first_expert": None}
# Elements that are poisoned at a time, and in how many pieces small ones are: a function allocates more than one.
MOST_POISONED = 1 << 22
SMALL_POISONED = 1 << 12
PIECES = 8
# Why a case is declined after the device was lost in this process.
GONE = "the device was lost in an earlier call; with isolate=True the process would be started again"
# Why a case with views is declined where arrays have no strides.
NO_VIEWS = "these arrays have no strides"


def parameters_of(function, known=ARRAYS + NUMBERS, named=BLOCKS + SHARED + KINDS, what="function"):
    """The names of the arguments that a function takes: of those that are known, and of those that it must name.

    Raises ``TypeError`` where its parameters cannot be read, or it needs another one.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        message = f"{what}: expected one whose parameters can be read, found {function!r}; wrap it in a def"
        raise TypeError(message) from error
    taken = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return list(known) + [name for name in taken if name in named]
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            continue
        if parameter.name in known + named and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            taken.append(parameter.name)
        elif parameter.default is inspect.Parameter.empty:
            raise TypeError(f"{what}: expected parameters among {', '.join(known + named)}; found {parameter}")
    return taken


class Caller:
    """Calls a function case by case, and answers with a kind and what belongs to it.

    The kinds are ``ok`` with tensors by name, ``skip`` and ``error`` with a reason, ``broken`` with a rule and what was
    found. A call of the same shapes as the one before has its arrays at the same places.
    """

    def __init__(self, function, parameters, arrays, poison):
        self.function = function
        self.parameters = parameters
        self.arrays = arrays
        self.poison = poison
        self.memories = {}
        # The output of the call before, and the tensor that it was.
        self.before = None
        self.is_gone = False

    def __call__(self, tensors, numbers):
        if self.is_gone:
            return "skip", GONE
        if not self.arrays.has_views and any(is_view(tensor) for tensor in tensors.values()):
            return "skip", NO_VIEWS
        self.bring(tensors)
        arguments = ABSENT | {name: memory.array for name, memory in self.memories.items()} | numbers
        element = tensors["hidden_states"][0]
        if self.poison:
            self.arrays.poison(poisoned(tensors), element)
        try:
            self.keep_output("written-after-return", "after its return", element)
            with self.arrays.calls():
                found = self.call({name: arguments[name] for name in self.parameters})
            self.arrays.finish()
            self.keep_inputs()
            return "ok", self.result(found, element)
        except _rules.Skip as reason:
            return "skip", str(reason)
        except _rules.Broken as broken:
            return "broken", (broken.rule, str(broken))
        except Exception as error:
            if self.arrays.is_lost(error):
                self.lost(error)
            return "error", f"{type(error).__name__}: {error}"

    def call(self, arguments):
        """What the function returns."""
        return self.function(**arguments)

    def lost(self, error):
        """No later call of this process can be right, and none is made. A process of its own would end here."""
        self.is_gone = True

    def bring(self, tensors):
        """The tensors in memory, at the same places as those of the call before where they have the same shapes."""
        for name in set(self.memories) - set(tensors):
            del self.memories[name]
        for name, tensor in tensors.items():
            memory = self.memories.get(name)
            if memory is not None and memory.holds(*tensor):
                # The same bytes are there already: a function that had changed them had broken a rule.
                if memory.data is not tensor[2]:
                    memory.write(tensor[2])
                    memory.array = self.arrays.update(memory)
            else:
                memory = self.memories[name] = Memory(*tensor)
                memory.array = self.arrays.place(memory)

    def keep_inputs(self):
        """Breaks a rule where an input, or memory beside it, is not as it was."""
        for name, memory in self.memories.items():
            broken = memory.broken(name, self.arrays.written(memory))
            if broken:
                # What lies there now is no input of a later call.
                self.memories = {}
                raise _rules.Broken(*broken)

    def keep_output(self, rule, when, element):
        """Breaks a rule where the output of the call before is not as it was."""
        if self.before is None:
            return
        value, (_, _, data) = self.before
        if self.arrays.contents("output", value, element)[2] != data:
            self.before = None
            raise _rules.Broken(rule, f"the output of the call before was changed {when}")

    def result(self, found, element):
        """The tensors that a function returned."""
        values = found if isinstance(found, dict) else {"output": found}
        tensors = {name: self.arrays.contents(name, value, element) for name, value in values.items()}
        self.keep_output("output-overwritten", "by this call", element)
        if "output" in values:
            for name, memory in self.memories.items():
                if self.arrays.shares(values["output"], memory):
                    raise _rules.Broken("output-aliases", f"output: expected memory of its own, found that of {name}")
            self.before = values["output"], tensors["output"]
        return tensors


def is_view(tensor):
    """Whether a tensor comes with strides and an offset."""
    return len(tensor) > 3


def poisoned(tensors):
    """The numbers of elements of what a function is likely to allocate: its output, slots, rows and their products."""
    batch, sequence, hidden = tensors["hidden_states"][1]
    assignments = batch * sequence * tensors["router_indices"][1][1]
    if "gate_up_proj" in tensors:
        _, one, other = tensors["gate_up_proj"][1]
        wide = one * other // max(hidden, 1)
    else:
        wide = tensors["gate_up_proj_blocks"][1][1]
    sizes = (batch * sequence * hidden, assignments * hidden, assignments * wide, assignments * wide // 2)
    return [size for size in sizes if size <= MOST_POISONED for _ in range(PIECES if size <= SMALL_POISONED else 1)]
