"""One case from its spec to its record: ``prepared`` builds and verifies it, ``runner`` measures and records it."""
