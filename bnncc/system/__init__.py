"""What bnncc asks of the operating system.  In reading order:

- `files.py`   files that are written whole or not at all
- `memory.py`  give memory that is no longer used back
"""
