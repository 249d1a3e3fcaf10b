"""The Redis keys of bertq.

Every key but the epoch expires, so that keys of a dead client or worker disappear. Task messages
are in Celery's own keys: lists named like the queue, ``unacked``, ``_kombu.binding*``. These expire
too (``bertq.state.queue_expiry``, ``bertq_workers.celery_compat.expiry``).
"""

#: Sorted set: node name of a worker -> Unix time when it was last seen, by its own clock.
WORKERS = "bertq:workers"

#: The same for workers that drain: they finish the chunks that they have, and take no others.
DRAINING = "bertq:draining"

#: The same for workers that have loaded a model and wait for its queues.
STANDBY = "bertq:standby"

#: Sorted set: queue that a client has sent to -> Unix time of the last request.
QUEUES = "bertq:queues"

#: Sorted set: id of a client -> Unix time of its last request.
CLIENTS = "bertq:clients"

#: Hash of counters over all requests, and a stream with one entry for each of the latest.
TOTALS = "bertq:totals"
REQUESTS = "bertq:requests"

#: A random name that changes when Redis has lost its data.
EPOCH = "bertq:epoch"

#: Sorted set: id of a durable job -> Unix time, by the clock of Redis, at which it expires.
DURABLE_JOBS = "bertq:kept"

#: The worker that monitors durable jobs.
MONITOR = "bertq:tender"

#: Celery's hash of unacknowledged chunks. In kombu 5.7, its fields are the delivery tags of
#: messages, which are the task ids of chunks (``bertq_client.outbox.message``; the version is
#: pinned, and tests/workers/test_transport.py checks this).
UNACKED = "unacked"

#: Celery's sorted set of the same tags -> Unix time at which a worker has last renewed the chunk.
UNACKED_INDEX = "unacked_index"

#: A key that a worker writes to find out whether Redis takes writes again.
PROBE = "bertq:probe"

#: A list that never exists: a worker reads it to find out whether it may use a command.
MISSING_LIST = "bertq:none"

#: Prefix of kombu's unacked keys for processes that only observe and never take a message.
OBSERVER = "bertq:onlooker:"


def result(task_id: str) -> str:
    """Return the key of a chunk's result: Celery's own name, so that Celery's tools find it."""
    return f"celery-task-meta-{task_id}"


def reply(name: str) -> str:
    """Return the key of a reply stream, of a client or durable job: an entry per finished chunk."""
    return f"bertq:reply:{name}"


def job(job_id: str) -> str:
    """Return the key of a job's record, a hash that says whether the job is active."""
    return f"bertq:job:{job_id}"


def messages(job_id: str) -> str:
    """Return the key of a hash: unanswered chunk of a durable job -> its message."""
    return f"bertq:job:{job_id}:messages"


def plan(job_id: str) -> str:
    """Return the key of a hash: part of a durable job's plan of rows, by number -> its bytes."""
    return f"bertq:job:{job_id}:plan"


def places(chunk: int) -> str:
    """Return the field of a durable job's record that says how many rows a chunk fills."""
    return f"places:{chunk}"


def attempts(chunk: int) -> str:
    """Return the field of a job's record that counts the attempts at a chunk."""
    return f"attempts:{chunk}"


def redeliveries(chunk: int) -> str:
    """Return the field of a job's record that counts the redeliveries of a chunk."""
    return f"returns:{chunk}"


def worker(node: str) -> str:
    """Return the key of a worker's info, a JSON document."""
    return f"bertq:worker:{node}"


def draining(node: str) -> str:
    """Return the key of the info of a worker that drains."""
    return f"bertq:draining:{node}"


def standby(node: str) -> str:
    """Return the key of the info of a worker that stands by."""
    return f"bertq:standby:{node}"


def drain(instance: str) -> str:
    """Return the key that asks a run of a worker to drain, within so many seconds."""
    return f"bertq:drain:{instance}"


def claim(queue: str) -> str:
    """Return the key of the claim on a shared queue, which holds its workers' fingerprint."""
    return f"bertq:queue:{queue}"


def batch(batch_id: str) -> str:
    """Return the key of the lease of a batch, which holds the name of the gateway that runs it."""
    return f"bertq:batch:{batch_id}"


def task_id(job_id: str, chunk: int) -> str:
    """Return the Celery task id of a job's chunk, counted from 0."""
    return f"{job_id}-{chunk}"


def split_task_id(task_id: str) -> tuple[str, int] | None:
    """Return (job id, chunk number) of a task id, or None if bertq did not create the id."""
    job_id, dash, chunk = task_id.rpartition("-")
    if not dash or not job_id or len(chunk) > 9 or not (chunk.isascii() and chunk.isdigit()):
        return None
    return job_id, int(chunk)
