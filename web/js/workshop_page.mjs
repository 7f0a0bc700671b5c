// What a workshop adds to ComfyUI's page: the person's jobs, the state of the connection, and further scripts.

import { app } from "../../scripts/app.js";
import { addBanner } from "./connection/banner.mjs";
import { follow } from "./jobs/state.mjs";
import { tellName } from "./jobs/workflow_name.mjs";
import { addTab } from "./jobs/tab.mjs";
import { addToasts } from "./jobs/toasts.mjs";
import { page } from "./page.mjs";
import { load } from "./tools.mjs";
import { PAGE, words } from "./words.mjs";

function addStyle() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("comfyume.css", import.meta.url).href;
  document.head.append(link);
}

async function start() {
  const told = await page;
  if (!told?.scripts) return;
  tellName();
  addStyle();
  const word = await words(PAGE);
  addTab(word);
  addToasts(word);
  addBanner(word);
  follow();
  await load(told.scripts);
}

app.registerExtension({
  name: "comfyume.WorkshopPage",

  // ComfyUI does not wait for it.
  setup() {
    start().catch((error) => console.error("[comfyume] this page does without the workshop's part:", error));
  },
});
