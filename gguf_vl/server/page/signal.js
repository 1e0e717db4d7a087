/** Something that happens, and those who want to know. */
export class Signal {
  #listeners = new Set();

  /** Have a function called at every `emit`; call what comes back to end that. */
  on(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit(...details) {
    for (const listener of [...this.#listeners]) listener(...details);
  }
}
