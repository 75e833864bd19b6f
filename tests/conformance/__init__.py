"""Every form of every operator that the emitter writes, in every runtime that pip gives: `make conformance`.

In reading order: `form` (a graph and its file), the tables of forms (`elementwise`, `activations`, `windowed`,
`products`, `moves`, `binary`, `quantized`; `forms` has them all), `avoided` (forms that are not written, because a
runtime is wrong with them), `values` (the numbers), `reference` with `reference_operators` (what is right, in float64),
`served` (runs files in one runtime, in its own Python), `batch` (starts that, and goes on where the process ends),
`verdict`, `environments` (the runtimes, and how each is started), `beside` (how the delegate gets to take a form),
`matrix`, `networks` (whole networks instead of forms), `page` (docs/conformance.md).
"""
