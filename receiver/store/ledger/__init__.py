"""The verbs of the ledger with their SQL, written once for every engine."""

from receiver.store.ledger import actions as actions
from receiver.store.ledger import alerts as alerts
from receiver.store.ledger import arrivals as arrivals
from receiver.store.ledger import audit as audit
from receiver.store.ledger import checks as checks
from receiver.store.ledger import definitions as definitions
from receiver.store.ledger import deliveries as deliveries
from receiver.store.ledger import events as events
from receiver.store.ledger import figures as figures
from receiver.store.ledger import ids as ids
from receiver.store.ledger import misses as misses
from receiver.store.ledger import owing_anew as owing_anew
from receiver.store.ledger import pruning as pruning
from receiver.store.ledger import reconciling as reconciling
from receiver.store.ledger import replays as replays
from receiver.store.ledger import rereading as rereading
from receiver.store.ledger import secrets as secrets
from receiver.store.ledger import submissions as submissions
from receiver.store.ledger import tallies as tallies
from receiver.store.ledger import tasks as tasks
from receiver.store.ledger import uploads as uploads
