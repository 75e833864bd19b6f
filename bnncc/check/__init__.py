"""`bnncc check`: accuracy against the float reference, on the user's own data.  In reading order:

- `check.py`         the whole of it: `check_file`, `check_compiled`
- `task.py`          what one process needs, and the measuring of some images
- `run.py`           all images: processes, clusters, interruptions
- `measurements.py`  what was measured, image by image
- `statistics.py`    intervals and tests
- `result.py`        the figures
- `layers.py`        layer by layer
- `report.py`        what is printed
- `page/`            the report as a web page
"""

from bnncc.check.check import CheckOptions, check_compiled, check_file
from bnncc.check.result import CheckResult

__all__ = ["CheckOptions", "CheckResult", "check_compiled", "check_file"]
