// Brings a file to the server, and goes on where it was after the connection was lost: `blobs/protocol.py` tells how.

import { app } from "../../../scripts/app.js";
import { problemOf } from "../client.mjs";

/** Milliseconds until another attempt. */
const PAUSE = 2000;
/** Attempts in a row that bring nothing, after which it is given up. */
const ATTEMPTS = 30;
/** Answers after which another attempt may do. */
const PASSING = [0, 408, 500, 502, 503, 504];

/**
 * @param {string} path
 * @param {File} file
 * @param {(arrived: number) => void} tell bytes that are there
 * @param {AbortSignal} signal ends it; what has arrived is kept for another time
 * @returns {Promise<any>} the server's word on what it has now
 * @throws {import("../client.mjs").Problem | DOMException}
 */
export async function upload(path, file, tell, signal) {
  const url = app.api.fileURL(`${path}?modified=${file.lastModified}`);
  let arrived = 0;
  let failures = 0;
  /** @type {number | null} where to begin; null while only the server knows */
  let from = null;
  for (;;) {
    const answer = await put(url, file, from, tell, signal);
    if (answer.status === 201) return answer.body;
    const offset = answer.body?.offset;
    if (offset > arrived) [arrived, failures] = [offset, 0];
    if (answer.status === 409 && typeof offset === "number" && offset !== from) {
      from = offset;
      tell(offset);
      continue;
    }
    if (!PASSING.includes(answer.status) || ++failures > ATTEMPTS) throw problemOf(answer, answer.body);
    from = null;
    await new Promise((done) => setTimeout(done, PAUSE));
  }
}

/**
 * @param {string} url
 * @param {File} file
 * @param {number | null} from null only asks where to go on
 * @param {(arrived: number) => void} tell
 * @param {AbortSignal} signal
 * @returns {Promise<{status: number, statusText: string, body: any}>} status 0 where there is no answer
 */
function put(url, file, from, tell, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    // Only this tells how much of a body is sent.
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    const done = () => {
      signal.removeEventListener("abort", stop);
      const { status, statusText, responseText } = request;
      resolve({ status, statusText, body: parsed(responseText) });
    };
    signal.addEventListener("abort", stop);
    request.onload = request.onerror = done;
    request.onabort = () => reject(signal.reason);
    request.open("PUT", url);
    request.setRequestHeader("X-Comfyume-Size", String(file.size));
    if (from === null) {
      request.setRequestHeader("Content-Range", `bytes */${file.size}`);
      request.send();
      return;
    }
    if (from) request.setRequestHeader("Content-Range", `bytes ${from}-${file.size - 1}/${file.size}`);
    request.upload.onprogress = ({ loaded }) => tell(from + loaded);
    request.send(file.slice(from));
  });
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
