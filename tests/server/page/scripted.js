// Answers that a test tells piece by piece, in the place of the server's: see `Script` in browser.py.
(() => {
  const real = window.fetch;
  const encoder = new TextEncoder();
  const script = (window.script = { on: true, asked: [], aborted: 0, refusals: [] });
  window.fetch = (path, options) => {
    if (!script.on || path !== "/v1/chat/completions") return real(path, options);
    script.asked.push(JSON.parse(options.body));
    const refusal = script.refusals.shift();
    if (refusal === null) return Promise.reject(new TypeError("Failed to fetch"));
    if (refusal) return Promise.resolve(new Response(JSON.stringify({ error: { message: refusal.message } }), { status: refusal.status }));
    let controller;
    const stream = new ReadableStream({ start: (given) => (controller = given) });
    script.tell = (text) => controller.enqueue(encoder.encode(text));
    script.close = () => controller.close();
    options.signal.addEventListener("abort", () => {
      script.aborted += 1;
      controller.error(options.signal.reason);
    });
    return Promise.resolve(new Response(stream, { headers: { "Content-Type": "text/event-stream" } }));
  };
})();
