// Words that are shown once, with a button that copies them.

/** @type {Workshop.ShowSecret} */
export function showSecret({ button, element, make, word }, place, { name, value, about }) {
  const shown = element("input", { value, readOnly: true, ariaLabel: name });
  const copy = button(word("secret.copy"), async () => {
    shown.select();
    // Pages without TLS have no clipboard of their own.
    await (navigator.clipboard?.writeText(shown.value) ?? document.execCommand("copy"));
    copy.replaceChildren(word("secret.copied"));
  });
  place.replaceChildren(make("p", "", about), shown, copy);
  shown.select();
}

/** @type {(kit: Workshop.Kit, place: HTMLElement, told: { user: string, password: string }) => void} */
export function showPassword(kit, place, { user, password }) {
  const { word } = kit;
  showSecret(kit, place, {
    name: word("password.new", { user }),
    value: password,
    about: word("password.once", { user }),
  });
}
