"""The client's stubs."""


def stubs_file(file, tree):
    raise NotImplementedError
