"""Background jobs that commit with your data."""
from lovely.remotetask.service import TaskService
from lovely.remotetask.task import SimpleTask, TaskError, backoff, context

__all__ = ["SimpleTask", "TaskError", "TaskService", "backoff", "context"]
