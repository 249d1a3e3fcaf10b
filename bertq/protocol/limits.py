"""Limits on one chunk and one request; the client checks them, and the worker again."""

#: Maximum sentences of one chunk. A worker's ``max_batch_size`` can only lower it.
MAX_CHUNK_ROWS = 256

#: Maximum characters of one chunk, unless a single sentence is longer.
MAX_CHUNK_CHARACTERS = 4 * 1024 * 1024

#: Maximum characters of one sentence. Wordpieces beyond ``max_seq_len`` are cut without an error;
#: this limit refuses obvious mistakes.
MAX_SENTENCE_CHARACTERS = 10 * 1024 * 1024

#: Maximum characters of the texts of a request whose tokens are returned with their places. A token
#: takes about 100 bytes.
MAX_LOCATED_CHARACTERS = 1024 * 1024

#: Maximum characters of a prompt, which is put before each sentence, and of a prompt's name.
MAX_PROMPT_CHARACTERS, MAX_PROMPT_NAME_CHARACTERS = 4096, 256

#: Maximum sentences of one request, and maximum characters of them all. Larger inputs need several
#: requests.
MAX_REQUEST_ROWS = 16 * 1024 * 1024
MAX_REQUEST_CHARACTERS = 4 * 1024 * 1024 * 1024

#: Maximum bytes of the rows of one chunk, as far as the client can tell. Redis values are limited
#: to 512 MiB, and token vectors (pooling NONE) of long sentences reach that.
MAX_CHUNK_BYTES = 32 * 1024 * 1024

#: Maximum sentences of a chunk that a worker accepts, also from clients of other versions.
MAX_WORKER_CHUNK_ROWS = 4096
