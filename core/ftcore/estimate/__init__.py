"""How much memory a run will take, before it takes it.

No weights are loaded. The model is built on torch's meta device, and one training step of it is traced with tensors that
have shapes and no contents; what such a step allocates and frees is counted (`trace`). What a step does not show, the
optimizer's states and the libraries, is added by formula (`optimizers`, `target`).
"""
