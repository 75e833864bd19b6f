"""What this machine can do: what `bnncc doctor` tells.  In reading order:

- `row.py`       one thing that was found
- `packages.py`  versions, and whether bnncc supports them
- `probes.py`    what is tried, each in a process of its own: a crash is a finding, not the end
- `tiny_file.py` the file on which interpreters are tried
- `examine.py`   all of it, and what follows for the commands

Nothing here imports what may be missing or broken on the machine but the probes.
"""

from bnncc.doctor.examine import examine
from bnncc.doctor.row import Row, State

__all__ = ["Row", "State", "examine"]
