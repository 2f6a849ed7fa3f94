"""From numbers to verdicts: pure functions that know no pytest, no torch and no files."""
