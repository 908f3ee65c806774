"""How often the gate is wrong: recordings of a commit against itself, and what gates make of them."""
