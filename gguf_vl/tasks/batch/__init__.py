"""The same question about many pictures, with many of them under way at once.

Inputs(words)                  the pictures that folders, globs, lists and names mean     from .inputs
arriving(inputs, done)         those, and new ones as they come                           from .watching
parts(files, done)             the pages of documents among them, each by itself          from .parts
Job(task, …)                   what is asked about each                                   from .job
answered(engine, job, files)   a `Line` for each, in the order of finishing               from .running
Turns()                        who may be under way beside whom                         from .turns
Output(path, begun)            the file of lines: locked, healed, gone on with            from .output
write_report(…)                a page to look through                                     from .report
"""
