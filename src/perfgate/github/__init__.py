"""How does a run reach people on GitHub? As a comment on a pull request, an issue, or a pull request of baselines.

All of it goes through GitHub's own command ``gh``, which has to be logged in or find a token in ``$GH_TOKEN``.
"""
