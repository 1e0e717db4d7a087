/** What this browser keeps, in IndexedDB; in memory where a browser keeps nothing. */

import { warn } from "./log.js";

const NAME = "gguf-vl";
const SHELVES = ["chats", "pictures"];

let opening = null;

function database() {
  opening ??= new Promise((resolve) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => SHELVES.forEach((name) => request.result.createObjectStore(name));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
  })
    .catch(() => null)
    .then((found) => {
      if (!found) warn("This browser keeps nothing: chats are gone when the page is closed.");
      return found;
    });
  return opening;
}

/** Things by id. What is put there is copied. */
export class Shelf {
  #inMemory = new Map();
  #isFull = false;

  /** @param {"chats"|"pictures"} name */
  constructor(name) {
    this.name = name;
  }

  async get(id) {
    return (await this.#done("readonly", (store) => store.get(id))) ?? this.#inMemory.get(id) ?? null;
  }

  async all() {
    return (await this.#done("readonly", (store) => store.getAll())) ?? [...this.#inMemory.values()];
  }

  /** False where it could not be kept, which is told once. */
  async put(id, thing) {
    if (!(await database())) {
      this.#inMemory.set(id, structuredClone(thing));
      return false;
    }
    try {
      await this.#done("readwrite", (store) => store.put(thing, id));
      this.#isFull = false;
    } catch (error) {
      if (!this.#isFull) warn(`This browser can keep no more ${this.name}, so the last are gone when the page is closed: ${error.message || error.name}`);
      this.#isFull = true;
    }
    return !this.#isFull;
  }

  async delete(id) {
    this.#inMemory.delete(id);
    await this.#done("readwrite", (store) => store.delete(id));
  }

  async #done(mode, act) {
    const found = await database();
    if (!found) return undefined;
    return new Promise((resolve, reject) => {
      const transaction = found.transaction(this.name, mode);
      const request = act(transaction.objectStore(this.name));
      transaction.commit(); // at once: the page may be on its way out
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error ?? request.error);
    });
  }
}
