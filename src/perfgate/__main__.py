"""Run the command line as ``python -m perfgate``."""

from perfgate.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
