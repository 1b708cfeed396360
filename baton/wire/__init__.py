"""What routers and workers say to each other: messages, stubs, and how a connection is secured.

`worker.proto` is the source of the files named `worker_pb2`. Nothing here knows what a message
does.
"""
