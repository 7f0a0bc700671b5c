"""Which model folders the files in a node's widgets are in: ComfyUI's own loaders, for nodes that do not say it.

A graph has widgets by their order and without names, so for each node class this is the folder of the first model file
among them, of the second, and so on; the last one holds for all that follow. A test compares it with what ComfyUI's
official templates say of the same nodes.
"""

from __future__ import annotations

_CLIP, _CHECKPOINT = ("text_encoders",), ("checkpoints",)

FOLDERS: dict[str, tuple[str, ...]] = {
    "AudioEncoderLoader": ("audio_encoders",),
    "CheckpointLoader": _CHECKPOINT,
    "CheckpointLoaderSimple": _CHECKPOINT,
    "CLIPLoader": _CLIP,
    "CLIPVisionLoader": ("clip_vision",),
    "ControlNetLoader": ("controlnet",),
    "DiffControlNetLoader": ("controlnet",),
    "DualCLIPLoader": _CLIP,
    "FrameInterpolationModelLoader": ("frame_interpolation",),
    "GLIGENLoader": ("gligen",),
    "HypernetworkLoader": ("hypernetworks",),
    "ImageOnlyCheckpointLoader": _CHECKPOINT,
    "LatentUpscaleModelLoader": ("latent_upscale_models",),
    "LoadBackgroundRemovalModel": ("background_removal",),
    "LoadDA3Model": ("geometry_estimation",),
    "LoadMoGeModel": ("geometry_estimation",),
    "LoraLoader": ("loras",),
    "LoraLoaderModelOnly": ("loras",),
    "LTXAVTextEncoderLoader": ("text_encoders", "checkpoints"),
    "LTXVAudioVAELoader": _CHECKPOINT,
    "ModelPatchLoader": ("model_patches",),
    "OpticalFlowLoader": ("optical_flow",),
    "PhotoMakerLoader": ("photomaker",),
    "QuadrupleCLIPLoader": _CLIP,
    "StyleModelLoader": ("style_models",),
    "TripleCLIPLoader": _CLIP,
    "UNETLoader": ("diffusion_models",),
    "unCLIPCheckpointLoader": _CHECKPOINT,
    "UpscaleModelLoader": ("upscale_models",),
    "VAELoader": ("vae",),
}


def folder_of(node_class: str, position: int) -> str:
    """The folder of the model file at this position among those of a node's widgets; empty where nobody knows."""
    folders = FOLDERS.get(node_class, ("",))
    return folders[min(position, len(folders) - 1)]
