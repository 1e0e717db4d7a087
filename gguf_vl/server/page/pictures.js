/** Pictures, documents and videos: kept in this browser, and sent to the server as soon as they are here, so that it can begin to look. */

import { newId } from "./format.js";
import { Failure, request, upload } from "./server.js";
import { setting } from "./settings.js";
import { Shelf } from "./shelf.js";
import { Signal } from "./signal.js";

const shelf = new Shelf("pictures");
const known = new Map();
const FIRST_LOOK_MS = 150;
const LONGEST_LOOK_MS = 2000;
const TYPES = /^(?:image\/|video\/|application\/pdf$)/;
const NAMES = /\.(?:avif|avi|bmp|gif|heic|heif|jpe?g|m4v|mkv|mov|mp4|mpe?g|m?ts|pdf|png|tiff?|webm|webp|wmv)$/i;
const TOLD = ["object", "width", "height", "tokens", "n_pictures", "pages", "n_pages", "seconds", "n_frames", "previews"];

/** Frames a second, where there is one `every` so many seconds. Raises `Failure` for what is no such number. */
function fpsOf(every) {
  if (!every) return undefined;
  const seconds = Number(every.replace(",", "."));
  if (seconds >= 0.001 && seconds < 1e6) return 1 / seconds;
  throw new Failure("Give the seconds from one frame to the next, such as 2.");
}

/** Whether a file may be one of them; the server knows for sure. */
export const isOne = ({ type, name }) => TYPES.test(type) || NAMES.test(name);

/**
 * A picture, a document or a video. `state` is "kept", "sending" (with `part` from 0 to 1), "encoding", "ready" or "failed" (with `error`); a
 * picture that is "kept" is sent when it is asked about. `url` shows it, where the browser can. Its record has id, name,
 * type, bytes, and what the server told (`TOLD`): of a document `pages` are those that are shown to the model. Of a
 * video a frame is shown `every` so many seconds, as they were typed.
 */
export class Picture {
  state = "kept";
  part = 0;
  error = "";
  changed = new Signal();
  #sending = null;
  #looks = 0; // how often the server was asked to look: only the last time is of interest
  #gone = new AbortController();

  constructor(record) {
    this.record = record;
    this.file = URL.createObjectURL(record.blob);
  }

  get url() {
    return this.record.previews?.[0] ?? this.file;
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
    this.#looks += 1;
    this.#become("sending");
    const asked = new URLSearchParams();
    for (const name of ["model", "detail"]) if (setting(name)) asked.set(name, setting(name));
    try {
      const { pages, every } = this.record;
      for (const [name, value] of Object.entries({ pages, fps: fpsOf(every) })) if (value) asked.set(name, value);
      const onPart = (part) => this.#become("sending", { part });
      const told = await upload(`/v1/pictures${asked.size ? `?${asked}` : ""}`, this.record.blob, onPart, this.#gone.signal);
      Object.assign(this.record, { server: told.id }, Object.fromEntries(TOLD.map((name) => [name, told[name]])));
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
    const look = this.#looks;
    while (state === "encoding" && !this.#gone.signal.aborted) {
      if (this.state !== "encoding") this.#become("encoding");
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 1.5, LONGEST_LOOK_MS);
      state = (await this.#told().catch(() => null))?.state;
      if (look !== this.#looks) return;
    }
    this.#become(state === "ready" ? "ready" : "kept");
  }

  async #told() {
    const path = `/v1/pictures/${this.record.server}`;
    return (await request(path, { quiet: true, signal: this.#gone.signal })).json();
  }

  /** Have other `pages` of a document shown to the model, or a frame `every` so many seconds of a video: as usual where that is empty. */
  async choose(chosen) {
    await this.#sending?.catch(() => {});
    Object.assign(this.record, chosen);
    await this.send().catch(() => {}); // its state tells
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

  /** The part of a message that shows it. Raises `Failure`. */
  async asPart(detail) {
    const url = await this.sent();
    const { object, name, pages, every } = this.record;
    if (object === "document") return { type: "file", file: { file_id: url, filename: name, pages, detail } };
    if (object === "video") return { type: "video_url", video_url: { url, detail, fps: fpsOf(every) } };
    return { type: "image_url", image_url: { url, detail } };
  }

  /** Forget it, here and on the server. */
  async remove() {
    this.#gone.abort();
    known.delete(this.id);
    await shelf.delete(this.id);
    URL.revokeObjectURL(this.file);
    const { server } = this.record;
    const isShared = [...known.values()].some(({ record }) => record.server === server); // the same picture, added twice
    if (server && !isShared) await request(`/v1/pictures/${server}`, { method: "DELETE" }).catch(() => {});
  }
}

/** Keep a file, and begin to send it. It is here at once: a question may be sent right behind it. */
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

/** What a picture is called, as far as that is known now. */
export const nameOf = (id) => known.get(id)?.record.name ?? "";

/** The tokens of a picture as far as that is known now. */
export const tokensOf = (id) => known.get(id)?.record.tokens ?? 0;

/** How many pictures the model sees of those: a page is one, and a step of a video. */
export const countOf = (ids) => ids.reduce((sum, id) => sum + (known.get(id)?.record.n_pictures ?? 1), 0);
