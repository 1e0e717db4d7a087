"""From what a person has (a file, bytes, a `data:` URI, stdin) to the pixels the model sees, and boxes back again.

    load_picture(source, limits)            a `Picture`                                     from .pictures
    limits_for(detail, limits)              the image tokens that `--detail` allows         from .resize
    fit_size(width, height, limits)         Qwen's resize rule                              from .resize
    find_boxes(answer, original_size)       an answer's boxes as pixels of the original     from .boxes

This room knows nothing of llama.cpp and never uses the network. This file imports nothing: boxes cost no Pillow.
"""
