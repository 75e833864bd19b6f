"""`python -m bnncc`."""

from bnncc.cli import main

main(prog_name="bnncc")
