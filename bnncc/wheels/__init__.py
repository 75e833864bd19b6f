"""Makes the wheels and the sdists of a release: `python -m bnncc.wheels`, or `make wheels`.  In reading order:

- `platforms.py`      which wheels there are
- `native.py`         compiles what is native in them, for each platform, and checks it
- `contents.py`       a wheel for a platform: a wheel of Python alone, and what was compiled
- `kotlin.py`         compiles the Kotlin class of Android's apps
- `android.py`        the AAR, in the folder of a Maven repository
- `__main__.py`       makes all

`targets/bnncc_runtime/` is the package for devices.
"""
