"""From what a person has (a file, bytes, a URI, the clipboard) to the pixels the model sees, and boxes back again.

    load_picture(source, limits)            a `Picture`                                     from .pictures
    given(source)                           a file's bytes, known to be a picture           from .given
    pages_of(path)                          how many pages a document has                   from .given
    show(sources, limits, budget, frames)   pictures, documents and videos for a message    from .shown
    load_pages(document, limits, budget)    pages of a PDF or TIFF, as many as fit          from .documents
    load_clip(source, limits, budget)       frames of a video, in pairs, with times         from .video
    Frames(every, number, scenes)           which frames those are                          from .choice
    page(path, number, limits)              a page of a PDF as PNG                          from .pdf
    grab(), copy(text)                      pictures and files from the clipboard, text     from .clipboard
    dropped_paths(text)                     a terminal's paste as the files it names        from .dropped
    fetch(url, offline=…)                   what a URL that a person typed leads to         from .fetching
    limits_for(detail, limits)              the image tokens that `--detail` allows         from .resize
    fit_size(width, height, limits)         Qwen's resize rule                              from .resize
    find_boxes(answer, original_size)       an answer's boxes as pixels of the original     from .boxes
    draw_boxes(image, boxes)                the boxes on the picture, for people            from .drawing
    thumbnail(source, max_size)             a small picture, for people                     from .drawing

This room knows nothing of llama.cpp. It uses the network for `fetch` alone, which `given` calls for a URL. Parsers that
hostile bytes can crash run in a child (`apart`). This file imports nothing: boxes, clipboard and drops cost no Pillow.
"""
