// What stands in the place of a part of the panel that could not be fetched: a sentence, and a button to try again.

/** @type {Workshop.NotLoaded} */
export function notLoaded({ element }, word, again) {
  const button = element("button", { type: "button", class: "cfm-button", onclick: again }, word("loading.again"));
  return element("div", { class: "cfw-section", role: "alert" }, element("p", {}, word("loading.failed")), button);
}
