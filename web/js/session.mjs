// Whose ComfyUI this is: an entry in the menu to sign out, and the way to the sign-in page when the session has ended.

import { app } from "../../scripts/app.js";
import { SIGN_IN, signInAgain } from "./sign_in_again.mjs";
import { toast } from "./toast.mjs";
import { PAGE, words } from "./words.mjs";

/** @param {string} path */
async function signOut(path) {
  const response = await fetch(app.api.fileURL(path), { method: "POST" }).catch(() => null);
  if (response?.ok || response?.status === 401) location.assign(SIGN_IN);
  else toast("error", word("session.still_signed_in"), word("session.unreachable"));
}

/** @returns {Promise<{user: string, role: string, can_sign_out: boolean} | null>} null where that is not to be known */
async function whoAmI() {
  try {
    const response = await fetch(app.api.fileURL("/comfyume/me"), { cache: "no-cache" });
    if (response.status === 401) signInAgain();
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

function watchForTheEnd() {
  const fetchApi = app.api.fetchApi;
  app.api.fetchApi = async function (...given) {
    const response = await fetchApi.apply(this, given);
    if (response.status === 401) signInAgain();
    return response;
  };
  // A socket that is refused looks like a server that is away.
  app.api.addEventListener("reconnecting", lookAgain);
  document.addEventListener("visibilitychange", () => document.hidden || lookAgain());
}

/** In another tab somebody else may have signed in: what is done here would be theirs. */
async function lookAgain() {
  const now = await whoAmI();
  if (now && me && now.user !== me.user) location.reload();
}

watchForTheEnd();
/** @type {import("./words.mjs").Words} */
const speechless = (key) => key;
const [me, word] = await Promise.all([whoAmI(), words(PAGE).catch(() => speechless)]);

app.registerExtension({
  name: "comfyume.Session",
  commands: me?.can_sign_out
    ? [
        {
          id: "comfyume.SignOut",
          label: word("session.sign_out", { name: me.user }),
          icon: "pi pi-sign-out",
          function: () => signOut("/comfyume/sign-out"),
        },
        {
          id: "comfyume.SignOutEverywhere",
          label: word("session.sign_out_everywhere"),
          icon: "pi pi-sign-out",
          function: () => signOut("/comfyume/sign-out/everywhere"),
        },
      ]
    : [],
  menuCommands: me?.can_sign_out
    ? [{ path: [word("session.menu")], commands: ["comfyume.SignOut", "comfyume.SignOutEverywhere"] }]
    : [],
});
