"""How often is the gate wrong on this machine? Fresh processes of unchanged code, with and without extra work.

``selecting`` finds the cases, ``fixture`` and ``inject`` measure them in a fresh process, ``measuring`` starts those,
``pool`` and ``store`` keep what they found. ``splits`` and ``deciding`` compare as a run with stored baselines does,
``pairing`` and ``deciding_pairs`` as one with ``--perf-ab``, ``rivals`` as other tools do; ``analysis``,
``counting_pairs`` and ``competing`` count, ``report`` tells.
"""
