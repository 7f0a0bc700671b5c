"""Content-addressed files over a folder or HTTP. Knows no ComfyUI.

Import from the modules: `digest`, `store`, `placing`, `http_client`, `http_server`, `errors`.
"""
