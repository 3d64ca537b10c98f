"""For a database that does not know this package: it may have services all the same."""
from lovely.remotetask.generations.evolve1 import evolve

__all__ = ["evolve"]
