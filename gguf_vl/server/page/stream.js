/** Answers as they come: a chat completion's server-sent events as plain events. */

import { Failure, request } from "./server.js";

const TORN = "The answer broke off: the connection to the server was cut.";

async function next(reader) {
  try {
    return await reader.read();
  } catch (error) {
    throw error.name === "AbortError" ? error : new Failure(TORN);
  }
}

/** The data of each event of a response. */
async function* dataOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await next(reader);
      if (done) return;
      const parts = (rest + value).split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length) yield data.join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * Ask, and tell what comes: `begun` (model), `progress` (stage, done, total), `thinking` and `text` (text), `boxes`
 * (boxes, points, the size of what they are in), `end` (reason, timings, of a task its fields and rows), `usage` (usage). Raises `Failure` for what the server refuses and for an answer
 * that breaks off, and an `AbortError` when `signal` says stop.
 * @param {object} body of POST /v1/chat/completions
 * @param {AbortSignal} signal
 */
export async function* complete(body, signal) {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, boxes: true, stream: true, stream_options: { include_usage: true, include_progress: true } }),
    signal,
  });
  let model = null;
  let isWhole = false;
  for await (const data of dataOf(response)) {
    if (data === "[DONE]") isWhole = true; // and on to the end: who leaves before it is counted as one who left
    if (isWhole) continue;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Failure(chunk.error.message, 500);
    if (model === null) yield { kind: "begun", model: (model = chunk.model) };
    yield* eventsOf(chunk);
  }
  if (!isWhole) throw new Failure(TORN);
}

function* eventsOf({ progress, usage, choices, timings }) {
  if (progress) yield { kind: "progress", ...progress };
  if (usage) yield { kind: "usage", usage };
  const [choice] = choices;
  if (!choice) return;
  const { reasoning_content: thinking, content: text, boxes, points, located_in: size, fields, rows } = choice.delta;
  if (thinking) yield { kind: "thinking", text: thinking };
  if (text) yield { kind: "text", text };
  if (boxes) yield { kind: "boxes", boxes, points: points ?? [], size };
  if (choice.finish_reason) yield { kind: "end", reason: choice.finish_reason, timings, fields, rows };
}
