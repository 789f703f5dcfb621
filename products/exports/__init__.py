"""One-click export: templates of ticked boxes, approved once, run by one press.

``jobs.run`` and ``jobs.ask``, ``store.templates/propose/decide``, ``schedules.add/run_due``. Shipped templates lie in
``templates/``; ``hypertension.yaml`` beside this file is the formatted roster of :func:`products.export`.
"""
