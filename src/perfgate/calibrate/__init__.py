"""How often is the gate wrong on this machine? Fresh processes of unchanged code, with and without extra work.

``selecting`` finds the cases, ``fixture`` and ``inject`` measure them in a fresh process, ``measuring`` starts those,
``pool`` and ``store`` keep what they found; ``splits``, ``deciding`` and ``rivals`` compare, ``analysis`` counts,
``report`` tells.
"""
