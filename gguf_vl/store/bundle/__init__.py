"""Models, and gguf-vl itself, carried to a machine without a network in one tar.

    README.txt, manifest.json, [manifest.json.sig,] [install.sh, install.py, packages/*.whl,] models/FOLDER/FILE…

`manifest.json` names every other file with its size and sha256. Every byte of the tar follows from the manifest, the
signature and the files it names: that is how an interrupted `create` goes on, and how `verify` and `install` need to
believe nothing that a tar says of itself: a link, a device, an odd name or a file too many is simply not what stands
there.
"""
