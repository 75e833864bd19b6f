"""Copies a bundle to a device, and runs its check and its measurement there.  In reading order:

- `bundle.py`  which device a bundle is for
- `ssh.py`     a Raspberry Pi, by the system's ssh and scp
- `adb.py`     an Android phone, by adb
"""

from bnncc.deploy.adb import Phone
from bnncc.deploy.ssh import Host

__all__ = ["Host", "Phone"]
