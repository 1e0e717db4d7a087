"""From a request to a stream of events, in a worker process.

`client.Engine` (asyncio) and `blocking.BlockingEngine` are what the rest of the program sees. On the other side of a
pipe, `worker` receives messages (`protocol`), `runner` answers one request at a time: `prompt` turns messages into
tokens and pictures, `embeddings` keeps encoded pictures, `answer` turns tokens into text. This room knows nothing of
HTTP, terminals, history, or models by name.
"""
