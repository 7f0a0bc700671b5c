// Whose ComfyUI this is: an entry in the menu to sign out, and the way to the sign-in page when the session has ended.

import { app } from "../../scripts/app.js";

const SIGN_IN = "/comfyume/sign-in";

let isLeaving = false;

/** Go to sign in, and come back here; ComfyUI's page keeps the work of its tab meanwhile. */
function signInAgain() {
  if (isLeaving) return;
  isLeaving = true;
  const here = location.pathname + location.search + location.hash;
  location.assign(`${SIGN_IN}?next=${encodeURIComponent(here)}`);
}

/** @param {string} path */
async function signOut(path) {
  const response = await fetch(app.api.fileURL(path), { method: "POST" });
  if (response.ok || response.status === 401) {
    location.assign(SIGN_IN);
  } else {
    const detail = "The server cannot be reached. Try again in a moment.";
    app.extensionManager.toast.add({ severity: "error", summary: "You are still signed in", detail });
  }
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
const me = await whoAmI();

app.registerExtension({
  name: "comfyume.Session",
  commands: me?.can_sign_out
    ? [
        {
          id: "comfyume.SignOut",
          label: `Sign out (${me.user})`,
          icon: "pi pi-sign-out",
          function: () => signOut("/comfyume/sign-out"),
        },
        {
          id: "comfyume.SignOutEverywhere",
          label: "Sign out on all browsers",
          icon: "pi pi-sign-out",
          function: () => signOut("/comfyume/sign-out/everywhere"),
        },
      ]
    : [],
  menuCommands: me?.can_sign_out
    ? [{ path: ["Account"], commands: ["comfyume.SignOut", "comfyume.SignOutEverywhere"] }]
    : [],
});
