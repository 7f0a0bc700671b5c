"""What a worker adds to ComfyUI: it claims prompts, stages their files, runs them and returns events and results."""
