"""A node pack for tests that only workers have: nodes that wait, write, announce and check, without a model."""
# ruff: noqa: N802 - INPUT_TYPES and the like are ComfyUI's names

from __future__ import annotations

import hashlib
import os
import struct
import time
from pathlib import Path
from typing import ClassVar

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import Types
from PIL import Image
from server import PromptServer

WEB_DIRECTORY = "./web/js"
ANY_NUMBER = ("INT", {"default": 0, "min": 0, "max": 2**31})
#: A number that ComfyUI gives to none of its binary events.
BINARY_EVENT = 77


class Gate:
    """Waits, interruptibly and with progress like a sampler, until a file exists; a black image comes out."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {"default": ""}), "number": ANY_NUMBER}}

    def run(self, path, number):
        progress = comfy.utils.ProgressBar(1000)
        step = 0
        while not os.path.exists(path):
            comfy.model_management.throw_exception_if_processing_interrupted()
            step = min(step + 1, 999)
            progress.update_absolute(step, 1000)
            time.sleep(0.02)
        return (torch.full((1, 16, 16, 3), (number % 256) / 255.0),)


class Stubborn:
    """Waits until a file exists, and heeds no interrupt."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {"default": ""}), "number": ANY_NUMBER}}

    def run(self, path, number):
        while not os.path.exists(path):
            time.sleep(0.02)
        return (torch.full((1, 16, 16, 3), (number % 256) / 255.0),)


class Previews:
    """Sends a preview image at each step."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"steps": ("INT", {"default": 4}), "number": ANY_NUMBER}}

    def run(self, steps, number):
        progress = comfy.utils.ProgressBar(steps)
        for step in range(steps):
            preview = ("JPEG", Image.new("RGB", (64, 64), (step * 40 % 256, 0, 0)), 512)
            progress.update_absolute(step + 1, steps, preview)
            time.sleep(0.15)
        return (torch.full((1, 16, 16, 3), (number % 256) / 255.0),)


class WriteFile:
    """Writes a file of any size into the output folder, piece by piece, and may declare it."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "name": ("STRING", {"default": "file.bin"}),
                "mebibytes": ("INT", {"default": 1, "min": 0, "max": 4096}),
                "declare": ("BOOLEAN", {"default": True}),
                "number": ANY_NUMBER,
            }
        }

    def run(self, name, mebibytes, declare, number):
        path = Path(folder_paths.get_output_directory(), name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for piece in range(mebibytes):
                file.write(struct.pack(">QQ", number, piece) * 65536)
            if mebibytes == 0:
                file.write(b"%d" % number)
        subfolder = os.path.dirname(name)
        reference = {"filename": os.path.basename(name), "subfolder": subfolder, "type": "output"}
        return {"ui": {"files": [reference]} if declare else {}}


class ReadFolder:
    """Says what is in a folder of the input folder."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"folder": ("STRING", {"default": ""}), "number": ANY_NUMBER}}

    def run(self, folder, number):
        root = Path(folder_paths.get_input_directory(), folder)
        found = []
        for path in filter(Path.is_file, root.rglob("*")):
            size = path.stat().st_size
            found.append(f"{path.relative_to(root).as_posix()}={path.read_text() if size < 1000 else size}")
        return {"ui": {"text": sorted(found)}, "result": (" ".join(sorted(found)),)}


class ReadText:
    """Reads a text file of the input folder, and like many a loader does not tell ComfyUI when that has changed."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"file": ("STRING", {"default": ""})}}

    def run(self, file):
        return (Path(folder_paths.get_input_directory(), file).read_text(),)


class Announce:
    """Sends events of its own: JSON and binary in turn, and text of progress."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"count": ("INT", {"default": 3}), "number": ANY_NUMBER},
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(self, count, number, unique_id):
        server = PromptServer.instance
        for index in range(count):
            server.send_sync("cfm.announced", {"index": index}, server.client_id)
            server.send_sync(BINARY_EVENT, struct.pack(">I", index), server.client_id)
        server.send_progress_text("half way", unique_id)
        return {"ui": {"text": [str(count)]}}


class UseCheckpoint:
    """Takes the name of a checkpoint and shows it."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"ckpt_name": (folder_paths.get_filename_list("checkpoints"),), "number": ANY_NUMBER}}

    def run(self, ckpt_name, number):
        return {"ui": {"text": [ckpt_name, os.environ.get("COMFYUME_WORKER_ID", "")]}, "result": (ckpt_name,)}


class ShadeOfLora:
    """A picture of the shade that a LoRA's one tensor tells; like ComfyUI's loader it knows a file by its path."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    known: ClassVar[dict[str, torch.Tensor]] = {}

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"lora_name": (["None", *folder_paths.get_filename_list("loras")],)}}

    def run(self, lora_name):
        path = folder_paths.get_full_path_or_raise("loras", lora_name)
        if path not in self.known:
            self.known[path] = comfy.utils.load_torch_file(path, safe_load=True)["shade"].float() / 255
        return (self.known[path].expand(1, 16, 16, 3),)


class CheckedByItself:
    """Has a check of its own, which only its code can make."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"word": ("STRING", {"default": ""}), "number": ANY_NUMBER}}

    @classmethod
    def VALIDATE_INPUTS(cls, word):
        return True if word != "bad" else "bad is no word"

    def run(self, word, number):
        return {"ui": {"text": [word]}, "result": (word,)}


class Fail:
    """Raises."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ANY_NUMBER}}

    def run(self, number):
        raise ValueError(f"failed as asked ({number})")


class UseKey:
    """Is given an API key in ComfyUI's way, as nodes of paid services are; says its SHA-256, or fails."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"fails": ("BOOLEAN", {"default": False}), "number": ANY_NUMBER},
            "hidden": {"key": "API_KEY_COMFY_ORG", "token": "AUTH_TOKEN_COMFY_ORG"},
        }

    def run(self, fails, number, key=None, token=None):
        if fails:
            raise ValueError("the service refused the key")
        digest = hashlib.sha256(str(key).encode()).hexdigest()
        return {"ui": {"text": [digest]}, "result": (torch.zeros(1, 16, 16, 3),)}


class MakeText:
    """Saves a text file of its own, with ComfyUI's counter, and names it in its result as an absolute path."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""}), "filename_prefix": ("STRING", {"default": "text"})}}

    def run(self, text, filename_prefix):
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        file = f"{name}_{counter:05}_.txt"
        Path(folder, file).write_text(text)
        reference = {"filename": file, "subfolder": subfolder, "type": "output"}
        return {"ui": {"text_files": [reference]}, "result": (str(Path(folder, file)),)}


class MakeMesh:
    """A triangle."""

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("MESH",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ANY_NUMBER}}

    def run(self, number):
        corners = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, float(number % 7)]]])
        return (Types.MESH(corners, torch.tensor([[[0, 1, 2]]])),)


NODE_CLASS_MAPPINGS = {
    f"Cfm{node.__name__}": node
    for node in (
        Gate,
        Stubborn,
        Previews,
        WriteFile,
        ReadFolder,
        ReadText,
        Announce,
        UseCheckpoint,
        ShadeOfLora,
        CheckedByItself,
        Fail,
        UseKey,
        MakeText,
        MakeMesh,
    )
}
NODE_DISPLAY_NAME_MAPPINGS = {"CfmGate": "Gate of the tests"}
