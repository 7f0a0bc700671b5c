"""A second node pack for tests, in the newer style, for a worker that lacks the first one."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io


class Shout(io.ComfyNode):
    """Shows a word in capitals."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CfmShout",
            display_name="Shout of the tests",
            category="comfyume tests",
            description="Shows a word in capitals.",
            inputs=[
                io.String.Input("word", default="hello", tooltip="what to say", multiline=True),
                io.Combo.Input("mark", options=["!", "?"], default="!"),
                io.Image.Input("image", optional=True),
            ],
            outputs=[io.String.Output(display_name="loud")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, word, mark, image=None):
        loud = word.upper() + mark
        return io.NodeOutput(loud, ui={"text": [loud]})


class SecondExtension(ComfyExtension):
    async def get_node_list(self):
        return [Shout]


async def comfy_entrypoint():
    return SecondExtension()
