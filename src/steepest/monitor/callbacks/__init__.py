"""The monitor as a callback of trainers: a file per trainer, each loaded only when it is asked for.

All take the arguments of `steepest.Monitor` but the optimizer and the model, which they find in the trainer, and leave the
trainer's own clipping, logging and checkpoints alone. Clipping that the trainer does itself comes before the step, so the
gradient norm is then that after it; clip in the chain, and switch the trainer's off, to see both.
"""
