"""Is the working tree slower than a commit? Both are measured in turn on this machine; no stored baseline is needed.

``git`` asks the repository, ``worktree`` makes the temporary checkout with its ``submodules``, ``overlay`` gives it
this side's measuring code, ``launch`` is the base's process, ``sides`` starts processes of either side, ``judge``
compares them, ``gate`` runs the pairs, ``stored`` knows which tests the commit had, and ``remarks`` says what else
a reader should know. ``affected``, ``imports`` and ``command`` tell which cases a change can reach.
"""
