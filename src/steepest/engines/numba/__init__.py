"""The cpu engine: a program printed as text for Numba, compiled, kept on disk and run over threads."""
