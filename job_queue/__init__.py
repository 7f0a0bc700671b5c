"""Jobs, claims and their events on Redis or Valkey. Knows no ComfyUI and no HTTP."""
