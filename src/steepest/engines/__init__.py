"""Engines run a program's stages on tensors; the executor leads them from stage to stage."""
