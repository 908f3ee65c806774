"""One case from its spec to its record."""
