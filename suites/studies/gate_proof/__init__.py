"""How often the gate is wrong: rounds of one commit measured against itself, and what the gates decide on them."""
