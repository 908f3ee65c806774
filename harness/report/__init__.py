"""From records to a report: ``view.compare`` makes the view model, ``html``, ``folder`` and ``published`` write it."""
