// Elements of the page. Whatever a person or a file is called goes into text nodes and properties, never into HTML.

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, unknown>} [properties] `class`, attributes with a hyphen, `on<event>`, or properties as the element
 *   has them; null and undefined are left out
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value !== null && value !== undefined) set(made, name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/**
 * @param {HTMLElement} made
 * @param {string} name
 * @param {unknown} value
 */
function set(made, name, value) {
  if (/html|srcdoc/i.test(name) && name !== "htmlFor") throw new TypeError(`${name} takes no text from here`);
  if (name.startsWith("on")) made.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
  else if (name === "class") made.className = String(value);
  else if (name in made) /** @type {any} */ (made)[name] = value;
  else made.setAttribute(name, String(value));
}

/**
 * A small picture beside words, or in a button that has a name.
 *
 * @param {string} name one of PrimeIcons, which ComfyUI's page has
 */
export const icon = (name) => element("i", { class: `pi pi-${name}`, "aria-hidden": "true" });

/**
 * Make these the children of an element. Those that are where they belong stay untouched, and keep playback; the focus
 * stays also with one that goes elsewhere.
 *
 * @param {Element} parent
 * @param {Element[]} wanted
 */
export function arrange(parent, wanted) {
  const keep = new Set(wanted);
  const focused = document.activeElement;
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, index) => {
    const there = parent.children[index] ?? null;
    if (there !== child) parent.insertBefore(child, there);
  });
  if (focused instanceof HTMLElement && focused !== document.activeElement) focused.focus({ preventScroll: true });
}

/**
 * Set a text where it is another: what has not changed is not read out again.
 *
 * @param {Element} place
 * @param {string} text
 */
export function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}
