"""What a function may raise, and what is raised of it."""


class Skip(Exception):
    """Raised by a function that does not take a case: it is counted as declined, by this reason, and is no failure."""


class Broken(Exception):
    """A rule of how a function is called is broken; the names are those of ``Rule`` in the crate ``check``."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule
