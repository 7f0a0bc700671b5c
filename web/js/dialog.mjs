// A question before something that cannot be taken back.

import { element } from "./elements.mjs";
import { PAGE, words } from "./words.mjs";

let asked = 0;

/**
 * @param {{title: string, text: string, action: string, danger?: boolean}} question `action` is what the button says
 * @returns {Promise<boolean>} whether it shall be done
 */
export async function ask({ title, text, action, danger = false }) {
  const word = await words(PAGE);
  const id = `cfm-dialog-${++asked}`;
  // The browser gives the focus to the first control, and back to where it was in the end.
  const shown = element(
    "dialog",
    { class: "cfm cfm-dialog", "aria-labelledby": `${id}-title`, "aria-describedby": `${id}-text` },
    element("h2", { id: `${id}-title` }, title),
    element("p", { id: `${id}-text` }, text),
    element(
      "form",
      { method: "dialog", class: "cfm-row" },
      element("button", { class: "cfm-button", value: "" }, word("dialog.back")),
      element("button", { class: `cfm-button ${danger ? "cfm-danger" : "cfm-primary"}`, value: "yes" }, action),
    ),
  );
  // Of a key that is meant for the question, ComfyUI's page would act on the graph, or take the Escape.
  shown.addEventListener("keydown", (event) => event.stopPropagation());
  document.body.append(shown);
  shown.showModal();
  await new Promise((closed) => shown.addEventListener("close", closed, { once: true }));
  shown.remove();
  return shown.returnValue === "yes";
}
