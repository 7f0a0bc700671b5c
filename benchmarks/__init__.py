"""Measurements of the workshop against ComfyUI itself."""
