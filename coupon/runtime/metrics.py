"""All metrics, in one table: what is counted and timed, by whom, and what is asked for at a scrape.

Which of them to watch, and what to do then, is in docs/operations.md ("What to watch").
"""

from coupon.runtime.instruments import Counter, Gauge, Histogram

# Commands: the web side accepts or refuses them, the worker applies or rejects them.
COMMANDS = Counter(
    "coupon_commands",
    "Commands. Web side: accepted, refused, busy, unavailable, failed. Either: applied. Worker: rejected, duplicate.",
    "kind",
    "outcome",
)
REFUSALS = Counter(
    "coupon_refusals", "Commands that were refused by the web side or rejected by a worker.", "kind", "reason"
)
ACCEPTED_S = Histogram("coupon_accepted_seconds", "From a request to the acceptance of its command.", "kind")
APPLIED_S = Histogram("coupon_applied_seconds", "From the acceptance of a command until it was applied.", "kind")
COUPONS_CREATED = Counter("coupon_coupons_created", "Coupons of the creations that workers have applied.")
DEAD_LETTERED = Counter("coupon_dead_lettered", "Messages that workers have dead-lettered.", "topic")
REQUESTS_WAITING = Gauge("coupon_requests_waiting", "Requests that wait for a thread, or for an outcome.", "what")

# Backends, as the process sees them.
BACKEND_S = Histogram("coupon_backend_call_seconds", "Calls of a backend, failed ones too.", "role", "method")
BACKEND_FAILURES = Counter("coupon_backend_failures", "Calls of a backend that failed.", "role", "method", "error")
CACHE_LOOKUPS = Counter("coupon_cache_lookups", "Lookups of coupons in the cache.", "result")
BREAKERS_OPEN = Gauge("coupon_circuit_breakers_open", "Processes that leave the backend alone after a failure.", "role")
PROCESSES = Gauge("coupon_processes", "Processes that these numbers are of.", "side", "version")

# Asked for at a scrape, by one web process. What has no answer in time is missing.
ANSWERED = Gauge("coupon_answered", "Whether the question at this scrape was answered in time.", "question")
LAG = Gauge("coupon_lag_messages", "Messages that no worker has committed.", "topic")
OLDEST_S = Gauge("coupon_oldest_message_seconds", "Age of the oldest command that no worker has committed.", "topic")
DEAD_LETTERS = Gauge("coupon_dead_letters", "Messages in the topic of the dead letters.")
WORKERS = Gauge("coupon_workers", "Living workers that read the topic.", "topic")
WORKERS_FAILING = Gauge("coupon_workers_failing", "Living workers that wait for a backend.")
DEFERRED = Gauge("coupon_deferred_commands", "Commands that workers hold until what they build on arrives.")
LEFT_ALONE = Gauge("coupon_partitions_left_alone", "Partitions that a worker has paused.", "topic")
COUPONS = Gauge("coupon_coupons", "Coupons, as search has them.", "state")
