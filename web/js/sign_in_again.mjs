// The way to the sign-in page when a session has ended.

export const SIGN_IN = "/comfyume/sign-in";

let isLeaving = false;

/** Go to sign in, and come back here; ComfyUI's page keeps the work of its tab meanwhile. */
export function signInAgain() {
  if (isLeaving) return;
  isLeaving = true;
  const here = location.pathname + location.search + location.hash;
  location.assign(`${SIGN_IN}?next=${encodeURIComponent(here)}`);
}
