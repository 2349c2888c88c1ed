"""The library's own workloads, a file each; ``BUILT_IN`` in ``workbench.workload`` names them.

Every one runs offline: its data are generated, part of Python, or packed in ``data/``. Nothing is imported
here, so that a workload without PyTorch needs none.
"""
