"""The conformance tests: whether an attention of any installed package meets the contract of ``AttentionPlugin``.

::

    pytest --pyargs harness.conformance --attention NAME [--device cuda] [--dtype bfloat16]

``--attention`` takes a comma-separated list and can be repeated; without it, every registered attention is tested.
Cases that a plugin declares unsupported are skipped with its reason. A failure message says what was expected, what was
found, and how to fix it.

The exit code is 1 if the module of an attention that ``--attention`` names was never built, because every test that
builds it was skipped or deselected; without ``--attention``, if this holds for all attentions. A line names each such
attention. The exit code is also 1 if an attention that ``--attention`` names declares an ability (such as ``backward``,
``padding_mask`` or a dtype) and its ``unsupported`` refused every test of it. Where it refused most tests, a line names
them.
"""
