/** Requests to the server that this page came from: its key, its failures, and a line in the log for each. */

import { ask } from "./dialogs.js";
import { note } from "./log.js";
import { forTheTab } from "./memory.js";
import { Signal } from "./signal.js";

const KEY = "gguf-vl.key";

/** What a request came to instead of an answer. `status` is HTTP's, 0 where the server was not reached. */
export class Failure extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

const UNREACHED = "The server cannot be reached. Check that it is running, then try again.";

function headersWith(key, more) {
  return key ? { ...more, Authorization: `Bearer ${key}` } : { ...more };
}

/** A person has given a key, right or wrong. */
export const keyGiven = new Signal();

let asking = null;

/** Have the person give a key, once for all requests that wait for one. Raises `Failure` when they don't. */
async function newKey(tried) {
  if (forTheTab.get(KEY) !== tried) return;
  asking ??= ask({
    title: "This server asks for a key",
    text: tried
      ? "It does not know the key that was given. Whoever runs it can tell you one."
      : "Whoever runs it can tell you one. It is kept until this tab is closed.",
    yes: "Use the key",
    field: { label: "Key", type: "password" },
  }).finally(() => (asking = null));
  const key = await asking;
  if (key === null) throw new Failure("This server wants a key, and none was given.", 401);
  forTheTab.set(KEY, key.replace(/[^!-~]/g, "")); // what no header can hold is in no key
  keyGiven.emit();
}

function failure(status, text) {
  let told = null;
  try {
    const { error } = JSON.parse(text);
    told = typeof error === "string" ? error : error?.message;
  } catch {
    // whatever stands between us and the server answers in its own words
  }
  return new Failure(told || `The server answered with the status ${status}.`, status);
}

function noteRequest(method, path, status, began) {
  const time = `${Math.round(performance.now() - began)} ms`;
  note(status && status < 400 ? "request" : "error", `${method} ${path} ${status || "no answer"} ${time}`);
}

/**
 * A response whose status says that all is well. Raises `Failure`, and an `AbortError` when `signal` says stop.
 * `quiet` requests are not logged.
 * @param {string} path
 * @param {RequestInit & {quiet?: boolean}} [options]
 * @returns {Promise<Response>}
 */
export async function request(path, { quiet = false, ...options } = {}) {
  const method = options.method ?? "GET";
  for (;;) {
    const key = forTheTab.get(KEY);
    const began = performance.now();
    let response;
    try {
      response = await fetch(path, { ...options, headers: headersWith(key, options.headers) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      noteRequest(method, path, 0, began);
      throw new Failure(UNREACHED);
    }
    if (!quiet || !response.ok) noteRequest(method, path, response.status, began);
    if (response.ok) return response;
    if (response.status !== 401) throw failure(response.status, await response.text());
    await newKey(key);
  }
}

/**
 * What the server answers to a file. Raises as `request` does. `onPart` is told the part that is sent, 0 to 1, which
 * `fetch` does not tell.
 * @param {string} path
 * @param {Blob} file
 * @param {(part: number) => void} onPart
 * @param {AbortSignal} signal
 */
export async function upload(path, file, onPart, signal) {
  for (;;) {
    const key = forTheTab.get(KEY);
    const began = performance.now();
    const { status, text } = await sent(path, file, headersWith(key), onPart, signal);
    noteRequest("POST", path, status, began);
    if (status >= 200 && status < 300) return JSON.parse(text);
    if (status === 0) throw new Failure(UNREACHED);
    if (status !== 401) throw failure(status, text);
    await newKey(key);
  }
}

function sent(path, file, headers, onPart, signal) {
  return new Promise((resolve, reject) => {
    const http = new XMLHttpRequest();
    const stop = () => http.abort();
    signal.addEventListener("abort", stop);
    http.open("POST", path);
    for (const [name, value] of Object.entries(headers)) http.setRequestHeader(name, value);
    http.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    http.upload.onprogress = (event) => event.lengthComputable && onPart(event.loaded / event.total);
    http.onabort = () => reject(new DOMException("stopped", "AbortError"));
    http.onerror = () => resolve({ status: 0, text: "" });
    http.onload = () => resolve({ status: http.status, text: http.responseText });
    http.onloadend = () => signal.removeEventListener("abort", stop);
    if (signal.aborted) return reject(new DOMException("stopped", "AbortError"));
    http.send(file);
  });
}
