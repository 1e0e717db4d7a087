/** Pictures: kept in this browser, and sent to the server as soon as they are here, so that it can begin to look. */

import { newId } from "./format.js";
import { Failure, request, upload } from "./server.js";
import { setting } from "./settings.js";
import { Shelf } from "./shelf.js";
import { Signal } from "./signal.js";

const shelf = new Shelf("pictures");
const known = new Map();
const FIRST_LOOK_MS = 150;
const LONGEST_LOOK_MS = 2000;

/**
 * A picture. `state` is "kept", "sending" (with `part` from 0 to 1), "encoding", "ready" or "failed" (with `error`); a
 * picture that is "kept" is sent when it is asked about. `url` shows it. Its record has id, name, type, bytes, and what
 * the server told: width, height (pixels), tokens.
 */
export class Picture {
  state = "kept";
  part = 0;
  error = "";
  changed = new Signal();
  #sending = null;
  #gone = new AbortController();

  constructor(record) {
    this.record = record;
    this.url = URL.createObjectURL(record.blob);
  }

  get id() {
    return this.record.id;
  }

  #become(state, more) {
    Object.assign(this, { state, part: 0, error: "" }, more);
    this.changed.emit();
  }

  /** Send it, unless that is under way; the server's name for it. Raises `Failure`. */
  send() {
    this.#sending ??= this.#send().finally(() => (this.#sending = null));
    return this.#sending;
  }

  async #send() {
    this.#become("sending");
    const asked = new URLSearchParams();
    for (const name of ["model", "detail"]) if (setting(name)) asked.set(name, setting(name));
    try {
      const onPart = (part) => this.#become("sending", { part });
      const told = await upload(`/v1/pictures${asked.size ? `?${asked}` : ""}`, this.record.blob, onPart, this.#gone.signal);
      Object.assign(this.record, { server: told.id, width: told.width, height: told.height, tokens: told.tokens });
      await shelf.put(this.id, this.record);
      this.#look(told.state);
      return told.id;
    } catch (error) {
      if (!this.#gone.signal.aborted) this.#become("failed", { error: error.message });
      throw error;
    }
  }

  /** Show how far the server is with it, until it is done. */
  async #look(state) {
    let pause = FIRST_LOOK_MS;
    while (state === "encoding" && !this.#gone.signal.aborted) {
      if (this.state !== "encoding") this.#become("encoding");
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 1.5, LONGEST_LOOK_MS);
      state = (await this.#told().catch(() => null))?.state;
    }
    this.#become(state === "ready" ? "ready" : "kept");
  }

  async #told() {
    const path = `/v1/pictures/${this.record.server}`;
    return (await request(path, { quiet: true, signal: this.#gone.signal })).json();
  }

  /** The server's name for it, which is sent again where it has been forgotten. Raises `Failure`. */
  async sent() {
    if (this.#sending) return this.#sending;
    try {
      if (this.record.server) return (await this.#told()).id;
    } catch (error) {
      if (!(error instanceof Failure) || !error.status || error.status >= 500) throw error;
    }
    return this.send();
  }

  /** Forget it, here and on the server. */
  async remove() {
    this.#gone.abort();
    known.delete(this.id);
    await shelf.delete(this.id);
    URL.revokeObjectURL(this.url);
    const { server } = this.record;
    const isShared = [...known.values()].some(({ record }) => record.server === server); // the same picture, added twice
    if (server && !isShared) await request(`/v1/pictures/${server}`, { method: "DELETE" }).catch(() => {});
  }
}

/** Keep a file, and begin to send it. It is here at once, before a question is. */
export function add(file) {
  const record = { id: newId(), name: file.name || "picture", type: file.type, bytes: file.size, blob: file };
  const picture = new Picture(record);
  known.set(record.id, picture);
  shelf.put(record.id, record);
  picture.send().catch(() => {}); // its state tells
  return picture;
}

/** A picture that is kept; null for one that is not. */
export async function get(id) {
  if (known.has(id)) return known.get(id);
  const record = await shelf.get(id);
  if (record && !known.has(id)) known.set(id, new Picture(record));
  return known.get(id) ?? null;
}

/** The tokens of a picture as far as that is known now. */
export const tokensOf = (id) => known.get(id)?.record.tokens ?? 0;
