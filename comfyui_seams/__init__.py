"""The only modules that import ComfyUI's own: one file a seam, and one place for each difference between versions."""
