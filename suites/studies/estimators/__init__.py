"""Error against time of YOSO's estimators on a CPU: plain and rescored samples beside exact attention.

``python -m suites.studies.estimators --out reports/cpu-estimators`` runs it. All settings of one length and kind of
inputs take turns in one process, and the results of the timed calls are those whose errors are reported.
"""
