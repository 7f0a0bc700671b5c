#!/bin/sh
# Makes this machine a worker of a workshop: installs what is missing, joins by the link, and runs until it is told to end.
# The link is in COMFYUME_JOIN or in /etc/comfyume/join. Run it again at any time: what is done is not done again.
set -eu
export HOME="${HOME:-/root}"
tools="$HOME/.local/share/comfyume/tools"
comfyui="${COMFYUI_PATH:-$HOME/comfy/ComfyUI}"
link="${COMFYUME_JOIN:-$(cat /etc/comfyume/join)}"

if [ ! -x "$tools/bin/comfy" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet comfy-cli
fi
export DO_NOT_TRACK=1
if [ ! -f "$comfyui/main.py" ]; then
    "$tools/bin/comfy" --skip-prompt --workspace "$comfyui" install --nvidia
fi
if [ ! -x "$comfyui/custom_nodes/comfyume/comfyume" ]; then
    "$tools/bin/comfy" --skip-prompt --workspace "$comfyui" node install comfyume
fi
export COMFYUI_PATH="$comfyui"
exec "$comfyui/custom_nodes/comfyume/comfyume" worker --join "$link" "$@"
