"""Shared by the attentions: the softmax oracle, the cost of a call, and whether a case can run on its device."""
