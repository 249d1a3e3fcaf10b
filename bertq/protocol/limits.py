"""How much goes into one chunk, and one request: checked by the client, and again by the worker."""

#: Sentences of one chunk. A worker's ``max_batch_size`` can only lower it.
CHUNK_ROWS = 256

#: Characters of one chunk, unless a single sentence is longer.
CHUNK_CHARACTERS = 4 * 1024 * 1024

#: Characters of one sentence. What is over ``max_seq_len`` wordpieces is cut without complaint;
#: this refuses what can only be a mistake.
SENTENCE_CHARACTERS = 10 * 1024 * 1024

#: Characters of a prompt, which goes before each sentence, and of the name of one.
PROMPT_CHARACTERS, PROMPT_NAME_CHARACTERS = 4096, 256

#: Sentences, and characters of all of them, of one request: what is more goes in several.
REQUEST_ROWS = 16 * 1024 * 1024
REQUEST_CHARACTERS = 4 * 1024 * 1024 * 1024

#: Bytes of the rows of one chunk, as far as the client can tell: Redis holds values of up to
#: 512 MiB, and token vectors (pooling NONE) of long sentences reach that.
CHUNK_BYTES = 32 * 1024 * 1024

#: Sentences of a chunk that a worker takes, from clients of other versions too.
WORKER_CHUNK_ROWS = 4096
