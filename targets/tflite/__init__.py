"""Emission: an ONNX graph in, the bytes of a TensorFlow Lite file out.

In reading order: `layout` (NCHW to NHWC), `writer` (the flatbuffer), `precision` (float16 and int8 weights),
`quantized` (what 8-bit integers stand for), `context` (what a lowering works with), `lowerings` (one function an
operator), `emit` (the walk over the graph), `public_metadata` (what other tools read); `reader` reads a file back, and
needs none of the others but `writer`: `bnncc inspect` waits for no graph library.  `runtimes` says on which
interpreters a file is right.
"""
