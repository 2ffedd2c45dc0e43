"""The sentences of the operator's tab, as ``words`` has those of the others."""

import sys

from studio.core import language

ADMIN_ONLY = "this is for whoever runs this studio; STUDIO_ADMINS names them."
ADMIN_WELCOME = "What this studio is doing, for whoever runs it"
ADMIN_POINTS = (
    "The queue of everybody, servers and devices, owners, caches, deliveries, what the disk holds.",
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
ADMIN_OWNER_OPEN = ("{count} of them open", "{count} of them open")
ADMIN_OWNER_PHOTOS = ("{count} photo", "{count} photos")
ADMIN_OWNER_TIME = "{time} of running this month"
ADMIN_OWNER_DAYS = ("kept for {count} day", "kept for {count} days")
ADMIN_OWNER_KEYS = ("{count} API key", "{count} API keys")
ADMIN_MORE = ("and {count} more", "and {count} more")
ADMIN_CACHES = "Caches"
ADMIN_CACHES_INFO = (
    "What is used least recently goes first where there is a limit. The result cache can be cleared here at once."
)
ADMIN_CACHE_NAMES = {
    "results": "Result cache",
    "bases": "Base models and published adapters",
    "weights": "Weights of completed jobs",
    "class_images": "Class pictures",
}
ADMIN_CACHE_OF = "{size} of {limit}"
ADMIN_CACHE_ENTRIES = ("{count} entry", "{count} entries")
ADMIN_CACHE_AWAY = "{size} more in the backup alone"
ADMIN_SERVERS = "Servers"
ADMIN_SERVERS_INFO = "Those that run something now, and this one."
ADMIN_THIS_SERVER = "{server} (this one)"
ADMIN_SERVER_IDLE = "runs nothing"
ADMIN_RUNS = "{kind} of {owner}, attempt {attempt}, for {time}"
ADMIN_RUNS_AT = "{kind} of {owner}, attempt {attempt}, for {time}, on {place}"
ADMIN_SILENT = "not heard of for {time}"
ADMIN_DEVICES = "Devices of this server"
ADMIN_DEVICE_NAMES = {"cpu": "Processor", "mps": "GPU (MPS)"}
ADMIN_DEVICE_GPU = "GPU {name}"
ADMIN_DEVICE_FREE = "free"
ADMIN_DEVICE_WARM = "a base stays loaded for pictures, {size}"
ADMIN_RENTED = "Rented machines"
ADMIN_MONEY = "{month}: {spent} of {budget} spent, {reserved} reserved for machines that may run now."
ADMIN_RENTED_ROW = "for {job}, {price} an hour, for {time}"
ADMIN_DELIVERIES = "Deliveries"
ADMIN_DELIVERIES_COUNT = "{waiting} wait, {failed} failed, {delivered} delivered."
ADMIN_WEBHOOKS = ("{count} active webhook.", "{count} active webhooks.")
ADMIN_DELIVERY = "{type} for {owner} to {host}"
ADMIN_DELIVERY_SEALED = "a sealed address"
ADMIN_DELIVERY_STATES = {"waiting": "waits", "delivered": "delivered", "failed": "failed"}
ADMIN_DELIVERY_TRIES = ("{count} attempt", "{count} attempts")
ADMIN_DELIVERY_STATUS = "last answer {status}"
ADMIN_DELIVERY_NEXT = "next in {time}"
ADMIN_DELIVERY_AGE = "{time} ago"
ADMIN_GPUS = "GPUs"
ADMIN_GPU = "{used} of {total} in use"
ADMIN_CLEAR = "Clear the result cache"
ADMIN_CLEAR_INFO = "Kept pictures are only copies for equal requests: those that jobs have made stay."
ADMIN_CLEARED = ("{count} kept picture deleted, {size}", "{count} kept pictures deleted, {size}")
WAITS_PAUSED = "The queue is paused"
WAITS_PAUSED_WHY = "Whoever runs this studio has paused it. Your job keeps its place and begins when the queue goes on."


sys.modules[__name__].__class__ = language.Spoken
