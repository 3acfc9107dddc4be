"""Published kernels, each checked inside the domain that its own code states.

A module whose name has no underscore in front is a kernel, or several of one project. Its docstring says where the
kernel comes from, what its domain follows from and which part of the function is not the project's; ``CHECKS`` lists
what is checked. ``python -m published`` runs them.
"""
