"""The client of a Baton cluster: text generation over gRPC, streamed, typed, with retries."""
