// A file that a job has made: a small picture, a player, or its name alone; and the way to keep it.

import { element, icon, write } from "../elements.mjs";
import { fileAddress, previewAddress } from "./addresses.mjs";

/**
 * @typedef {import("./state.mjs").JobFile} JobFile
 * @typedef {import("../words.mjs").Words} Words
 */

// Browsers have no `loading=lazy` for films.
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    const player = /** @type {HTMLVideoElement} */ (target);
    player.src = player.dataset.src ?? "";
  }
});

/**
 * @param {JobFile} file
 * @param {Words} word
 */
export function fileItem(file, word) {
  const name = file.filename;
  const item = element("li", { class: "cfm-file" });
  item.dataset.media = file.media;
  const keep = element("a", { class: "cfm-button cfm-square", href: fileAddress(file), download: name }, icon("download"));
  keep.title = word("file.download", { name });
  keep.setAttribute("aria-label", keep.title);
  const label = element("span", { class: "cfm-name", title: name }, name);
  const media = shown(file, word);
  if (media) item.append(media);
  item.append(element("div", { class: "cfm-row" }, label, keep));
  return item;
}

/**
 * @param {JobFile} file
 * @param {Words} word
 * @returns {HTMLElement | null}
 */
function shown(file, word) {
  const name = file.filename;
  const gone = element("p", { class: "cfm-muted" });
  /** @param {Event} event */
  const onerror = ({ target }) => {
    write(gone, word("file.not_shown"));
    /** @type {Element} */ (target).replaceWith(gone);
  };
  if (file.media === "image") {
    const picture = { loading: "lazy", decoding: "async", alt: name, src: previewAddress(file), onerror };
    const open = { href: fileAddress(file), target: "_blank", rel: "noopener", title: word("file.open") };
    return element("a", open, element("img", picture));
  }
  if (file.media === "video") {
    const player = element("video", { controls: true, playsInline: true, preload: "metadata", onerror });
    player.setAttribute("aria-label", name);
    player.dataset.src = fileAddress(file);
    seen.observe(player);
    return player;
  }
  if (file.media === "audio") {
    return element("audio", { controls: true, preload: "none", "aria-label": name, src: fileAddress(file), onerror });
  }
  return null;
}
