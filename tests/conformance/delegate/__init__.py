"""The delegate in every runtime that takes delegates: `make conformance-delegate`.

In reading order: `files` (what is run), `served` (runs it, in a process of the runtime), `runtimes` (which), `matrix`
(runs all, and keeps what each said), `page` (docs/conformance_delegate.md).
"""
