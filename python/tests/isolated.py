"""Functions for a process of their own."""

import os
import sys
import time

from kernels import function, plus_one_forgotten, right

wrong = function(plus_one_forgotten)


def agrees(**case):
    print("a library that prints")
    return right(**case)


def disagrees(**case):
    return wrong(**case)


def dies(hidden_states, **case):
    if hidden_states.shape[1] == 5:
        print("out of memory", file=sys.stderr, flush=True)
        os._exit(7)
    return right(hidden_states=hidden_states, **case)


def hangs(hidden_states, **case):
    if hidden_states.shape[1] == 5:
        time.sleep(60)
    return right(hidden_states=hidden_states, **case)


def changes_an_input(hidden_states, **case):
    output = right(hidden_states=hidden_states, **case)
    hidden_states += 1
    return output


def sleeps(**case):
    time.sleep(0.05)
    return right(**case)
