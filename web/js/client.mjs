// comfyume's own addresses: JSON in, JSON out, and errors as the server tells them (RFC 9457 problem details).

import { app } from "../../scripts/app.js";
import { signInAgain } from "./sign_in_again.mjs";

const KIND = "urn:comfyume:";
const UNREACHABLE = "The server cannot be reached. Try again in a moment.";

/** An answer other than the one that was hoped for; `message` is a sentence for the person. */
export class Problem extends Error {
  /**
   * @param {number} status 0 when there was no answer at all
   * @param {string} kind such as `store-unavailable`, `not-found`, `unreachable`
   * @param {string} message
   */
  constructor(status, kind, message) {
    super(message);
    this.name = "Problem";
    this.status = status;
    this.kind = kind;
  }
}

/**
 * @param {{status: number, statusText: string}} response
 * @param {any} body the JSON that was answered; null for none
 */
export function problemOf({ status, statusText }, body) {
  if (!status) return new Problem(0, "unreachable", UNREACHABLE);
  const kind = String(body?.type ?? "").replace(KIND, "");
  const message = body?.detail ?? body?.title ?? `${status} ${statusText}`.trim();
  return new Problem(status, kind, String(message));
}

/**
 * @param {string} method
 * @param {string} path as in the API's description, such as `/comfyume/jobs`
 * @param {unknown} [body]
 * @returns {Promise<any>} the JSON that was answered; null for an empty answer
 * @throws {Problem}
 */
export async function send(method, path, body) {
  /** @type {RequestInit} */
  const request = { method, cache: "no-cache" };
  if (body !== undefined) {
    request.headers = { "Content-Type": "application/json" };
    request.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(app.api.fileURL(path), request);
  } catch {
    throw new Problem(0, "unreachable", UNREACHABLE);
  }
  if (response.status === 401) signInAgain();
  if (!response.ok) throw problemOf(response, await response.json().catch(() => null));
  return response.status === 204 ? null : response.json();
}

/**
 * @param {string} path
 * @returns {Promise<any>} the JSON that was answered
 * @throws {Problem}
 */
export const get = (path) => send("GET", path);
