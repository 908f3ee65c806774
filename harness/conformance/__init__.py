"""The conformance kit: whether an attention of any installed package keeps the contract of ``AttentionPlugin``.

::

    pytest --pyargs harness.conformance --attention NAME [--device cuda] [--dtype bfloat16]

``--attention`` takes a comma list or comes several times; without it every registered attention is checked. What a
plugin declares unsupported is a skip with its reason. Each check is one test, and its message says what was expected,
what came and what to do.
"""
