/** Small things that this browser remembers, as JSON; in memory alone where it is told to remember nothing. */

class Memory {
  #kept = new Map();

  constructor(storeOf) {
    try {
      this.store = storeOf();
    } catch {
      this.store = null;
    }
  }

  /** What was kept under a name, null for nothing. */
  get(name) {
    if (this.#kept.has(name)) return this.#kept.get(name);
    try {
      return JSON.parse(this.store?.getItem(name) ?? "null");
    } catch {
      return null;
    }
  }

  /** Keep a value; null forgets. */
  set(name, value) {
    try {
      if (value === null) this.store.removeItem(name);
      else this.store.setItem(name, JSON.stringify(value));
      this.#kept.delete(name);
    } catch {
      this.#kept.set(name, value);
    }
  }

  /** The names that begin so. */
  names(beginning) {
    return [...this.#kept.keys(), ...Object.keys(this.store ?? {})].filter((name) => name.startsWith(beginning));
  }
}

export const forGood = new Memory(() => localStorage);
export const forTheTab = new Memory(() => sessionStorage);
