"""Requests made from API descriptions by schemathesis, sent to a frontend and to a plain ComfyUI alike."""
