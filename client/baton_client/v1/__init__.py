"""Messages and stubs of baton.v1, written by protoc from client/proto."""
