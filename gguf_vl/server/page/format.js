/** Numbers and times as people read them. */

const COUNT = new Intl.NumberFormat("en");

export const count = (value) => COUNT.format(Math.round(value));

export const counted = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

export function seconds(value) {
  if (value < 0.0995) return `${Math.max(1, Math.round(value * 1000))} ms`;
  return value < 9.95 ? `${value.toFixed(value < 0.995 ? 2 : 1)} s` : `${count(value)} s`;
}

export function bytes(value) {
  if (value < 1e6) return `${Math.max(1, Math.round(value / 1e3))} KB`;
  return `${(value / 1e6).toFixed(1)} MB`;
}

export function rate(value) {
  return `${value < 99.5 ? value.toFixed(1) : count(value)} tokens/s`;
}

export const clock = (date) => date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** When a chat was last used: the time for today, else the day. */
export function day(time) {
  const date = new Date(time);
  if (date.toDateString() === new Date().toDateString()) {
    return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  }
  return date.toLocaleDateString([], { day: "numeric", month: "short" });
}

/** A new name for something kept: `crypto.randomUUID` is missing where the page does not come over TLS. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
