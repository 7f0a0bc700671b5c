"""Models: which are needed, where they are, and bringing them from there. Knows no ComfyUI, only its file formats."""
