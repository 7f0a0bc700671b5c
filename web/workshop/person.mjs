// What is done for one person: limits, credits, a new password.

import { limitsForm } from "./limits.mjs";
import { showPassword } from "./secret.mjs";

/** @type {Workshop.MakePersonTools} */
export function personTools(kit, person, usual, changed) {
  const { attempt, button, client, dialog, element, make, number, told, word } = kit;
  const { user } = person;
  const path = `/comfyume/people/${encodeURIComponent(user)}`;

  const placeholder = word("credits.amount");
  const amount = element("input", { type: "number", step: "any", required: true, placeholder, ariaLabel: placeholder });
  const credits = kit.form("cfm-row", word("credits.give"), grant, amount);
  async function grant() {
    const value = amount.valueAsNumber;
    const name = `panel-${Date.now()}-${Math.random().toString(36).slice(2)}`;
    // The same grant again changes nothing, so that it may be asked for twice.
    const give = (/** @type {number} */ sum) =>
      client.send("POST", `${path}/credits`, { credits: sum, grant: `${name}${Math.sign(sum)}` }).then(changed);
    if ((await attempt(() => give(value).then(() => true))) !== true) return;
    amount.value = "";
    told(word("did.granted", { user, credits: number(value) }), () => give(-value));
  }

  const secret = element("div", { class: "cfm-row", role: "status" });
  async function resetPassword() {
    const [title, action] = [word("password.ask"), word("password.yes")];
    if (!(await dialog.ask({ title, text: word("password.text", { user }), action, danger: true }))) return;
    const answer = await attempt(() => client.send("POST", `${path}/password`));
    if (!answer) return;
    showPassword(kit, secret, answer);
  }

  const history = button(word("person.history"), () => kit.go("history", user));
  const reset = button(word("password.reset"), resetPassword, "cfm-danger");
  const limits = limitsForm(kit, `${path}/limits`, usual, person, changed);
  return [make("div", "cfm-row", history, reset), secret, credits, limits];
}
