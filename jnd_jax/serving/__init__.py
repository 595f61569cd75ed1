"""The codec for servers: a decoder in TensorFlow, range coding by TensorFlow Compression, an HTTP service."""
