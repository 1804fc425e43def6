"""The library behind StreetVision: from labelled street images to a verified roadwork classifier.

It knows nothing of Dagster. Dependencies point one way:
cli -> history -> bundle -> training -> models, data, eval -> io -> errors.
"""
