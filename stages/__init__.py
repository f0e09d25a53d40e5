"""headstart's code. The stages, in the order of the pipeline, each ``python -m stages.<name>``:

    images     the data set, every image checked to be readable
    weights    the backbone's pretrained weights as one Gluon file
    split      which images train, validate and test
    featurize  every image's feature, from the feature cache or the backbone
    train      the head, on the features
    audit      what in the data looks wrong, from the features
    evaluate   how the head does on the test images

The commands: ``predict`` (which class an image is of), ``export`` (the classifier for use elsewhere), ``cache`` (looks
into the feature cache).

The packages, from the ground up; each imports only those above it in this list:

    common                      errors, files, params, where everything is
    backend, dataset, engines   MXNet; images and lists; who computes
    backbones                   pretrained networks and their weights files
    preprocessing               from an image file to a network's input
    inference                   a network made fast for features
    features                    from image bytes to stored vectors
    classifier                  what lies behind the cut: the head, its training and its scores
    findings                    what in the data looks wrong
    report, exports             the page about a test; the classifier for use elsewhere

docs/architecture.md has the whole map.
"""

import signal
import sys

# A command is starting (Python is looking for its module). While it imports what it needs, Ctrl-C ends it without a
# word, as there is nothing to tell; ``common.errors.run`` does so later.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
