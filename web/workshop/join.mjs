// How a further GPU machine becomes a worker: a link for it, in the command that takes it.

import { showSecret } from "./secret.mjs";

/** @type {(kit: Workshop.Kit) => HTMLElement[]} */
export function joinForm(kit) {
  const { attempt, client, form, format, make, word } = kit;
  const secret = make("div", "cfm-row");
  secret.setAttribute("role", "status");

  async function add() {
    const link = await attempt(() => client.send("POST", "/comfyume/workers/links", {}));
    if (!link) return;
    const address = new URL(link.path, location.href);
    showSecret(kit, secret, {
      name: word("join.command"),
      value: `comfyume worker --join ${address}`,
      about: word("join.once", { time: format.moment(link.expires) }),
    });
  }

  return [make("p", "cfm-muted", word("join.about")), form("cfm-row", word("join.make"), add), secret];
}
