"""Runs ComfyUI's own ``tests/execution``, unchanged, through a frontend and a worker."""
