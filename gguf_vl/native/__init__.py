"""llama.cpp's objects, owned: the only room that imports `llama_cpp`.

Everything here lives in a child process, because llama.cpp ends its process on a failed assert, a corrupt file or a
full device. Each class owns one native object, releases it in `close()`, and lets no pointer out. This room knows no
prompt, no request and no schedule.
"""
