"""From records to a report.

``comparison.compare`` makes the whole report as plain data from the answers of ``questions``; ``formats`` write it.
Imports point one way: ``formats``, ``comparison``, ``questions``, ``model``.
"""
