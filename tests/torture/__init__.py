"""What no user wants to meet, tried on every command: `python -m tests.torture`, `make torture`.

- `forked.py`    a command in a process of its own, and what became of it
- `subjects.py`  what the commands are given while it is whole
- `rows.py`      what a case must give
- `mutate.py`    damage to files
- `mutants.py`   damaged files of every kind
- `signals.py`   signals at every stage
- `outputs.py`   outputs that cannot be written
- `races.py`     several processes at once
- `values.py`    odd command lines and parameters
- `native.py`    the native code under sanitizers
- `page.py`      the table
"""
