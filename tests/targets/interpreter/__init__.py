"""The interpreter of the program `bnncc_run` (targets/runtime/interpreter): operators, networks, malformed files.

tests/targets/tflite runs every file of the emitter in it too; tests/bundle runs the program on emulated phones.
"""
