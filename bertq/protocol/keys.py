"""Every Redis key of bertq, and how long each lives.

Every key but the epoch has a time to live: what a dead client or worker leaves behind goes by
itself. Task messages are Celery's own (lists named like the queue, ``unacked``,
``_kombu.binding.*``).
"""

#: Sorted set: node name of a worker -> Unix time when it was last seen, by its own clock.
WORKERS = "bertq:workers"

#: Sorted set: queue that a client has sent to -> Unix time of the last request.
QUEUES = "bertq:queues"

#: Sorted set: id of a client -> Unix time of its last request.
CLIENTS = "bertq:clients"

#: Hash of counters over all requests, and a stream with one entry for each of the latest.
TOTALS = "bertq:totals"
REQUESTS = "bertq:requests"

#: Random name of what this Redis holds; another one after its data was lost.
EPOCH = "bertq:epoch"

#: Sorted set: id of a job that is kept -> Unix time, by the clock of Redis, at which it expires.
KEPT = "bertq:kept"

#: The worker that looks after the jobs that are kept.
TENDER = "bertq:tender"

#: Celery's hash of the chunks that workers have taken and not yet acknowledged. kombu 5.7 has the
#: delivery tag of a message as its field, which is a chunk's task id
#: (``bertq_client.outbox.message``; the version is pinned, and tests/workers/test_transport.py
#: looks at it).
UNACKED = "unacked"

#: What a worker writes to find out whether Redis takes writes again.
PROBE = "bertq:probe"

#: A list that is never there: a worker asks for it to find out whether it may use a command.
NOTHING = "bertq:none"

#: Where kombu keeps what is unacked for those who only look on, and never take anything.
ONLOOKER = "bertq:onlooker:"

#: Seconds that a stored chunk, and the notice of it, wait for the client to fetch them.
RESULT_TTL = 600

#: Seconds that a job is wanted without a sign of life of its client, which renews the record.
JOB_TTL = 600

#: Seconds that a job is kept that outlives its client, unless the user says otherwise.
KEPT_TTL = 24 * 3600

#: Seconds after which a worker that says nothing counts as gone, and its claim on a queue ends.
WORKER_TTL = 15

#: Seconds that the set of workers stays when none of them says anything any more.
WORKERS_TTL = 600

#: Seconds without a request after which the counters are forgotten.
STATISTICS_TTL = 24 * 3600


def result(task_id: str) -> str:
    """Return the key of a chunk's result: Celery's own name, so that its tools find it."""
    return f"celery-task-meta-{task_id}"


def reply(name: str) -> str:
    """Return the key of a reply stream, a client's or a kept job's: an entry per finished chunk."""
    return f"bertq:reply:{name}"


def job(job_id: str) -> str:
    """Return the key of a job's record, a hash: whether its chunks are still wanted."""
    return f"bertq:job:{job_id}"


def messages(job_id: str) -> str:
    """Return the key of a hash: chunk of a kept job that is not answered -> its message."""
    return f"bertq:job:{job_id}:messages"


def plan(job_id: str) -> str:
    """Return the key of what says which rows of a kept job its chunks fill."""
    return f"bertq:job:{job_id}:plan"


def places(chunk: int) -> str:
    """Return the field of a kept job's record that tells how many rows a chunk fills."""
    return f"places:{chunk}"


def attempts(chunk: int) -> str:
    """Return the field of a job's record that counts how often a chunk was begun."""
    return f"attempts:{chunk}"


def returns(chunk: int) -> str:
    """Return the field of a job's record that counts how often a chunk came back to its queue."""
    return f"returns:{chunk}"


def worker(node: str) -> str:
    """Return the key of a worker's advert, a JSON document."""
    return f"bertq:worker:{node}"


def claim(queue: str) -> str:
    """Return the key of the claim on a shared queue: the fingerprint that its workers have."""
    return f"bertq:queue:{queue}"


def task_id(job_id: str, chunk: int) -> str:
    """Return the Celery task id of a job's chunk, counted from 0."""
    return f"{job_id}-{chunk}"


def split_task_id(task_id: str) -> tuple[str, int] | None:
    """Return (job id, chunk number) of a task id, or None if it is not one of ours."""
    job_id, dash, chunk = task_id.rpartition("-")
    if not dash or not job_id or len(chunk) > 9 or not (chunk.isascii() and chunk.isdigit()):
        return None
    return job_id, int(chunk)
