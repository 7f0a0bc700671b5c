// A password that is shown once, with a button that copies it.

/** @type {Workshop.ShowSecret} */
export function showSecret({ button, element, make, word }, place, { user, password }) {
  const ariaLabel = word("password.new", { user });
  const shown = element("input", { value: password, readOnly: true, ariaLabel });
  const copy = button(word("password.copy"), async () => {
    shown.select();
    // Pages without TLS have no clipboard of their own.
    await (navigator.clipboard?.writeText(shown.value) ?? document.execCommand("copy"));
    copy.replaceChildren(word("password.copied"));
  });
  place.replaceChildren(make("p", "", word("password.once", { user })), shown, copy);
  shown.select();
}
