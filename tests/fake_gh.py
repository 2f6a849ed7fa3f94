"""A stand-in for GitHub's command: it notes how it was called, and answers from a file.

Beside it, ``answers.json`` maps the start of a command line to what is printed; ``calls.jsonl`` gets a line each call.
"""

import json
import sys
from pathlib import Path

here = Path(sys.argv[0]).resolve().parent
arguments = sys.argv[1:]
reads = "-" in arguments
with (here / "calls.jsonl").open("a") as file:
    print(json.dumps({"arguments": arguments, "text": sys.stdin.read() if reads else ""}), file=file)
answers = json.loads((here / "answers.json").read_text())
line = " ".join(arguments)
for start in sorted(answers, key=len, reverse=True):
    if line.startswith(start):
        print(answers[start])
        sys.exit()
print(f"gh: no answer for {line}", file=sys.stderr)
sys.exit(1)
