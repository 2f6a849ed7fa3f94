"""The models and drivers that the cases in ``perf_tests/`` run. Not part of the plugin, not in its wheel."""
