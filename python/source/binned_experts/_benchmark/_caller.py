"""Calls with a clock."""

from time import perf_counter

from .._call import WEIGHTS, Caller, poisoned

# The inputs that are others in each call.
OF_CALL = ("hidden_states", "router_indices", "routing_weights")


class TimedCaller(Caller):
    """Calls a function, and measures each call.

    With a ``setup`` the function gets as ``state`` what that returned for the weights: it is called, outside the time of a
    call, whenever they are others. A call that ``rehearses`` follows calls with the values of the one before, which are not
    measured, so that it is timed as one of many.
    """

    def __init__(self, function, parameters, arrays, setup, setup_parameters, reuses_output):
        super().__init__(function, parameters, arrays, poison=True)
        self.setup = setup
        self.setup_parameters = setup_parameters
        self.reuses_output = reuses_output
        self.rehearses = False
        # The values of the call before, where it had the same shapes, and what memory is poisoned.
        self.earlier = []
        self.to_poison = None
        # The bytes of the weights that the state is of.
        self.prepared = None
        self.state = None
        # Of the last call, and of them those until it returned; of the last setup.
        self.seconds = None
        self.host_seconds = None
        self.setup_seconds = None
        # The most bytes of the device that a call took beside its inputs, and that the last setup did.
        self.peak_bytes = None
        self.setup_bytes = None

    def bring(self, tensors):
        memories = self.of_call()
        earlier = [memory.kept for memory in memories]
        super().bring(tensors)
        self.earlier = earlier if memories == self.of_call() else []
        self.to_poison = poisoned(tensors), tensors["hidden_states"][0]

    def of_call(self):
        return [self.memories[name] for name in OF_CALL if name in self.memories]

    def call(self, arguments):
        if self.setup is not None:
            self.prepare()
            arguments["state"] = self.state
        clock = self.arrays.clock
        self.arrays.wait()
        if self.rehearses and self.earlier:
            clock.rehearse(lambda: self.made(arguments), self.of_call(), self.earlier)
            self.arrays.poison(*self.to_poison)
            self.arrays.wait()
        taken = self.arrays.watch()
        timed = clock(lambda: self.made(arguments), self.memories["hidden_states"])
        self.seconds, self.host_seconds = timed.seconds, timed.host
        if taken() is not None:
            self.peak_bytes = max(self.peak_bytes or 0, taken())
        return timed.found

    def made(self, arguments):
        """What is timed."""
        found = self.function(**arguments)
        if self.reuses_output:
            # What a caller who wants to keep the output has to do.
            self.arrays.copied(found["output"] if isinstance(found, dict) else found)
        return found

    def prepare(self):
        """Calls the setup where the weights are not those of the state."""
        weights = {name: self.memories[name] for name in WEIGHTS}
        data = [memory.data for memory in weights.values()]
        if self.prepared is not None and all(one is other for one, other in zip(self.prepared, data)):
            return
        self.state = None
        self.arrays.wait()
        taken = self.arrays.watch()
        start = perf_counter()
        self.state = self.setup(**{name: weights[name].array for name in self.setup_parameters})
        self.arrays.wait()
        self.setup_seconds = perf_counter() - start
        self.setup_bytes = taken()
        self.prepared = data

    def keep_output(self, rule, when, element):
        if rule == "output-overwritten" and self.reuses_output:
            return
        super().keep_output(rule, when, element)

    @property
    def input_bytes(self):
        """Of all inputs of the last call."""
        return sum(memory.size for memory in self.memories.values())
