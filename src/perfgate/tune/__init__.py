"""Which launch configuration of a kernel is fastest on this GPU? ``perfgate tune``, and what it stores for launchers.

``tunable`` is what a kernel declares, ``search`` times its configurations, ``store`` keeps the best ones in
``baselines/<key>/tuning/<kernel>.json``, and ``command`` is the command line.
"""
