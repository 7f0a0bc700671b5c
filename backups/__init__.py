"""Snapshots of a workshop, sealed, in a bucket or a folder. Knows no ComfyUI and no queue."""
