"""`bnncc check`: accuracy against the float reference, on the user's own data.  In reading order:

- `check.py`         the whole of it: `check_file`, `check_compiled`
- `options.py`       how to check
- `bars.py`          what the file must keep to
- `task.py`          what one process needs, and the measuring of some images
- `run.py`           all images: processes, clusters, interruptions
- `measurements.py`  what was measured, image by image
- `result.py`        the figures
- `recompile.py`     the network compiled as the file was
- `same_file.py`     whether the file is that
- `layers.py`        layer by layer
- `report.py`        what is printed
- `page/`            the report as a web page
"""

from bnncc.check.check import check_compiled, check_file, verify_file
from bnncc.check.options import CheckOptions
from bnncc.check.result import CheckResult

__all__ = ["CheckOptions", "CheckResult", "check_compiled", "check_file", "verify_file"]
