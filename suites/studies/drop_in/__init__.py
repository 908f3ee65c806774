"""Pretrained encoders whose softmax attention is swapped for another one: what is kept, at once and after distillation.

``python -m suites.studies.drop_in --out reports/drop-in`` runs it. A copy of the pretrained model (the student) gets
the other attention and keeps all weights. It is compared with the original (the teacher) before any training and at
several steps of a short distillation, in which the teacher's hidden states and outputs are the only targets.
"""
