"""Completes the requests of a client with the results of their chunks."""

from bertq.errors import BertqError, ModelMismatch, RemoteError, SentenceTooLong, WireError
from bertq.protocol import keys
from bertq.state import purge
from bertq_client.context import SessionContext
from bertq_client.inbox import results
from bertq_client.inbox.processed import ProcessedNotices
from bertq_client.inbox.recovery import Recovery
from bertq_client.inbox.reply_stream import Notice
from bertq_client.job import Job
from bertq_client.outbox.sender import Sender

#: Times that a request is sent again because its chunks were answered by two models. Workers with
#: two models may share the queue of a device for good.
_MAX_RESTARTS = 3


class Answers:
    """Processes notices, on the gatherer's thread and on those of waiting callers.

    Attributes:
        processed: the notices that are processed.
        recovery: finds lost chunks.
    """

    def __init__(self, context: SessionContext, sender: Sender) -> None:
        self._registry = context.registry
        self._sender = sender
        self.processed = ProcessedNotices()
        self.recovery = Recovery(context, sender.resend, self._fail)

    def process(self, notice: Notice, payload: bytes | None) -> None:
        """Process the notice of a chunk.

        Args:
            notice: the notice.
            payload: the result; None if it is gone.
        """
        job_id = self._process_result(notice.task_id, payload)
        if self.processed.add(notice, job_id, len(payload or b"")):
            self._registry.wake_gatherer()

    def _process_result(self, task_id: str, payload: bytes | None) -> str | None:
        """Process one result; return the job's id if it was the last one of the job."""
        parts = keys.split_task_id(task_id)
        job = self._registry.get_job(parts[0]) if parts else None
        if parts is None or job is None or job.assembly is None:
            return None  # cancelled, timed out, or a chunk that was computed twice
        number = parts[1]
        if number >= len(job.assembly.plan):
            return None  # forged: no client has sent such a chunk
        try:
            if payload is None:
                if number in job.assembly.missing:
                    self.recovery.resend(job, [number])
                return None
            answer = results.decode(payload, task_id)
            if job.encoding.show_tokens and answer.tokens is None:
                raise WireError(f"the tokens of chunk {task_id} are missing")
            if not job.assembly.add(number, answer):
                return None  # another thread processes it, or has done so
            self._registry.mark_answered(job, number)
            if not job.is_shared:
                job.requests[0].future.advance(job.assembly.done)
            if job.is_shared and job.assembly.has_token_rows:
                # Padded to the longest sentence, which may belong to another request.
                self._send_separately(job)
                return None
            if job.assembly.missing:
                return None
            self._complete(job)
        except (RemoteError, SentenceTooLong) as error:
            is_purged = isinstance(error, RemoteError) and error.type_name == purge.ERROR_NAME
            if job.is_shared and not is_purged:
                self._send_separately(job)
            else:
                self._fail(job, results.error_of_request(error, job.assembly.plan[number]))
            return None
        except ModelMismatch as error:
            self._restart(job, error)
            return None
        except Exception as error:
            # Any other error means that memory is short, and must not stop the stream.
            known = error if isinstance(error, BertqError) else BertqError(f"no rows: {error!r}")
            self._fail(job, known)
            return None
        return job.id

    def _complete(self, job: Job) -> None:
        # The answer may come before the sender has counted: the caller shall find it counted.
        self._sender.count(job)
        answers = list(job.answers())
        still_open = self._registry.remove_job(job)
        for request, answer in answers:
            if request in still_open and self._registry.take_request(request.number) is not None:
                try:
                    request.succeed(answer)
                except Exception as error:  # no memory for lists of numbers
                    request.fail(BertqError(f"no rows: {error!r}"))

    def _restart(self, job: Job, error: ModelMismatch) -> None:
        """Send the requests of a job again, as a whole, because its model was replaced."""
        if any(request.num_restarts >= _MAX_RESTARTS for request in job.requests):
            self._fail(job, error)
            return
        for request in self._registry.remove_job(job):
            request.num_restarts += 1
            request.future.advance(0)
            self._sender.send(request)
        self._sender.cancel_job(job)

    def _send_separately(self, job: Job) -> None:
        """Send the requests of a job again, each alone, so that an error of one fails no other."""
        for request in self._registry.remove_job(job):
            request.may_share_job = False
            self._sender.send(request)
        self._sender.cancel_job(job)

    def _fail(self, job: Job, error: Exception) -> None:
        self._registry.fail(job, error)
        self._sender.cancel_job(job)
