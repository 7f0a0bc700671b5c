"""What a frontend adds to ComfyUI: who asks, the workshop's jobs, events, files, the workers' nodes, health."""
