"""Keep the repository root off ``sys.path``.

``kernels/`` is a source root, not a package, but with the repository root on the path it imports as one. Hugging Face
transformers looks for an installed package of that name: some of its releases then fail to import
("InvalidVersion: 'N/A'"), and other libraries may too. ``python -m pytest`` puts the working directory on the path,
plain ``pytest`` does not; this file makes both alike.
"""

import sys
from pathlib import Path

_root = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _root]
