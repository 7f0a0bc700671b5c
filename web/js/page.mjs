// What the server tells this page of the workshop.

import { get } from "./client.mjs";

/** @type {Promise<{first_template: string | null, scripts?: string[]} | null>} null where that is not to be known */
export const page = get("/comfyume/page").catch(() => null);
