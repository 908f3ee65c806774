"""Which cases a run has. A profile is one file here that defines ``PROFILE``, a frozen ``Profile``.

``profile`` defines what a profile is made of and finds the files; ``selection`` is what the user asked for; ``cases``
turns both into specs; ``published_settings`` are training cases with the settings of YOSO's authors.
"""
