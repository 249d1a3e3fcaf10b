"""How long each kind of data is stored in Redis."""

#: Seconds that the result of a chunk, and its notice, are stored for the client.
RESULT_SECONDS = 600

#: Seconds that a job is active after its client has last renewed the record.
JOB_SECONDS = 600

#: Seconds that a durable job is stored, unless the user sets another time.
DURABLE_JOB_SECONDS = 24 * 3600

#: Minimum seconds that a queue is stored after the last chunk was sent to it, and that queues and
#: unacknowledged chunks are stored after the last sign of a worker that serves them.
QUEUE_SECONDS = 24 * 3600

#: Seconds without an update after which a worker counts as dead, and its claim on a queue ends.
WORKER_SECONDS = 15

#: Seconds within which a worker must read the request to drain.
DRAIN_REQUEST_SECONDS = 60

#: Seconds that the set of workers is stored after the last update of any worker.
WORKERS_SECONDS = 600

#: Seconds without a request after which the counters expire.
STATISTICS_SECONDS = 24 * 3600
