"""Helpers of the tests: real stores, real ComfyUI processes and a small client. Knows nothing of pytest."""
