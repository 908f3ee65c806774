"""Which cases a profile has: one file a profile, what they share in ``cases``, the user's choice in ``selection``.

``quick`` runs in minutes on two cores; ``standard`` adds lengths, padding and base-size models, within an hour and a
half there; ``full`` adds every attention in the encoder, bfloat16 and n = 65536. ``gpu`` is for a CUDA device, and
``paper`` is the efficiency protocol of the YOSO paper. ``task_presets`` are task cases at published settings.
"""
