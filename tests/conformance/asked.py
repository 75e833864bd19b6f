"""Runs files in one runtime, in a process of its own, for a program that asks over standard input.

    python asked.py KIND XNNPACK THREADS DELEGATE

The arguments are those of served.py; what is asked and answered, those of tests/targets/runtime/messages.py.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "targets" / "runtime"))

import messages
import served  # beside this file


def main():
    kind, xnnpack, threads, delegate = sys.argv[1:]
    load = served.loader(kind, xnnpack == "1", int(threads), delegate)
    messages.serve(lambda content: load(content, needs_lce=True))


if __name__ == "__main__":
    main()
