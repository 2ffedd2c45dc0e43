"""The sentences of the operator's tab, as ``words`` has those of the others."""

import sys

from studio.core import language

ADMIN_ONLY = "this is for whoever runs this studio; STUDIO_ADMINS names them."
ADMIN_WELCOME = "What this studio is doing, for whoever runs it"
ADMIN_POINTS = (
    "The queue of everybody, what runs, what the disk holds.",
    "What other people's jobs are about stays theirs: no photos, pictures, names or prompts are shown here.",
)
ADMIN_QUEUE = "Queue"
ADMIN_QUEUE_EMPTY = "No job waits or runs."
ADMIN_COLUMNS = ("Job", "Owner", "State", "Attempt", "Age", "Waited", "Memory")
ADMIN_KINDS = {
    "check": "Photo check",
    "train": "Training",
    "generate": "Pictures",
    "export": "Export",
    "finish": "Finishing",
    "publish": "Publishing",
}
ADMIN_PLACE = "{state}, number {place}"
ADMIN_PAUSED = "The queue is paused"
ADMIN_PAUSED_WHY = "What runs goes on; nothing new begins until you let the queue go on, also after a restart."
ADMIN_LEADS = "This server runs the jobs."
ADMIN_LED = "Another server of this queue runs the jobs."
ADMIN_NOT_LED = "No server runs the jobs now."
ADMIN_RUNNING = "Running: {running}; jobs that may hold a device at once: {slots}."
ADMIN_MEMORY = "Memory: {free} of {total} free. Processor: {load:.1f} of {cores} cores wanted."
ADMIN_JOB = "Job"
ADMIN_JOB_INFO = "Of anybody; what the job has made so far is kept."
ADMIN_CHOICE = "{kind} · {owner} · {state}"
ADMIN_NO_JOB = "no job is chosen; choose one first."
ADMIN_CANCEL = "Cancel this job"
ADMIN_RETRY = "Put it back into the queue"
ADMIN_CANCELLED = "It is asked to stop"
ADMIN_RETRIED = "It is in the queue again"
ADMIN_PAUSE, ADMIN_RESUME = "Pause the queue", "Let the queue go on"
ADMIN_RESUMED = "The queue goes on"
ADMIN_LOOK = "Look again"
ADMIN_DISK = "Disk"
ADMIN_DISK_FREE = "{free} of {total} are free where the studio keeps its things."
ADMIN_PLACES = {
    "jobs": "Jobs, with their photos, runs and pictures",
    "uploads": "Uploads, and files that the page shows",
    "results": "Result cache",
    "caches": "Other caches",
    "bases": "Downloaded base models",
    "table": "Table of jobs",
    "other": "Other",
}
ADMIN_OWNERS = "Owners"
ADMIN_OWNER = ("{count} job, {size}", "{count} jobs, {size}")
ADMIN_GPUS = "GPUs"
ADMIN_GPU = "{used} of {total} in use"
ADMIN_CLEAR = "Clear the result cache"
ADMIN_CLEAR_INFO = "Kept pictures are only copies for equal requests: those that jobs have made stay."
ADMIN_CLEARED = ("{count} kept picture deleted, {size}", "{count} kept pictures deleted, {size}")
WAITS_PAUSED = "The queue is paused"
WAITS_PAUSED_WHY = "Whoever runs this studio has paused it. Your job keeps its place and begins when the queue goes on."


sys.modules[__name__].__class__ = language.Spoken
