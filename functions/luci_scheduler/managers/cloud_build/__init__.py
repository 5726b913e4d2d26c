"""The ``cloud_build`` task kind: Google Cloud Build, by existing triggers or by inline steps."""
