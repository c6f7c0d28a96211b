"""What goes wrong between us and RunningHub: one error type, and the provider's table of codes.

The codes are those of the provider's page "API Error Code Reference"; whether to try again is our judgement. Codes of
our own: `not_sent` (no connection was made), `unanswered` (sent, no answer), `unreadable`, `http_<status>`, `no_key`,
`other_key`, `unsafe` (it names an address that is not public); and for an answer with a sentence but without a code
`busy`, `refused` and `unclear`, which says an error of some kind.
"""

import re

from msgspec import Struct

from receiver.model.errors import Failed


class Code(Struct, frozen=True):
    """The provider's name for a code, what it means, whether asking again may help, and what its reader can do."""

    name: str
    meaning: str
    retryable: bool = False
    remedy: str = ""


# The provider has two sites with accounts of their own, and each says of the other's keys that they do not exist.
CHECK_KEY = (
    "check runninghub.api_key, and that runninghub.base_url is the site the key was made on "
    "(https://www.runninghub.ai or https://www.runninghub.cn)"
)
SITE_BACK = "set runninghub.base_url and runninghub.api_key back until the task has ended"
RUN_ONCE = "save the workflow and run it once by hand on the site, then order it again"
SHARED_KEY = "make an Enterprise-Shared key on the site and set it as runninghub.api_key"
NOT_WEBP = "a WebP image may be the reason: send it as PNG or JPEG"
HINTS = (("UnidentifiedImageError", NOT_WEBP), ("cannot identify image file", NOT_WEBP))
"""Words of a failed task's own error that have a known reason."""
IDENTIFIER = re.compile(r"[A-Z0-9]+(_[A-Z0-9]+)+")
"""What the provider often says for a sentence: a constant's name, such as TOKEN_INVALID."""

CODES: dict[str, Code] = {
    "1": Code("MISC", "refused without a reason; for webhook details: no such event"),
    "301": Code("PARAMS_INVALID", "parameters are missing or invalid"),
    "380": Code("WORKFLOW_NOT_EXISTS", "there is no such workflow"),
    "401": Code("UNAUTHORIZED", "the API key was not accepted", remedy=CHECK_KEY),
    "412": Code("TOKEN_INVALID", "the API key is missing or invalid", remedy=CHECK_KEY),
    "414": Code("NOT_ENOUGH_COINS", "the account has too few coins"),
    "415": Code("TASK_INSTANCE_MAXED", "no exclusive instance is free", retryable=True),
    "416": Code("NOT_ENOUGH_WALLET", "the wallet balance is too low"),
    "421": Code("TASK_QUEUE_MAXED", "the key's limit of concurrent tasks is reached", retryable=True),
    "423": Code("TASK_NOT_FOUNED", "there is no such task"),
    "433": Code("VALIDATE_PROMPT_FAILED", "the workflow graph is invalid"),
    "435": Code("TASK_USER_EXCLAPI_INSTANCE_NOT_FOUND", "no exclusive machine of that kind"),
    "436": Code("TASK_USER_EXCLAPI_REQUIRED", "an exclusive key is needed"),
    "500": Code("UNKNOWN_ERROR", "unknown error", retryable=True),
    "801": Code("APIKEY_UNSUPPORTED_FREE_USER", "free accounts cannot use the API"),
    "802": Code("APIKEY_UNAUTHORIZED", "the API key is wrong, expired, or of the other site", remedy=CHECK_KEY),
    "803": Code("APIKEY_INVALID_NODE_INFO", "nodeInfoList does not fit the workflow"),
    "804": Code("APIKEY_TASK_IS_RUNNING", "the task is running", retryable=True),
    "805": Code("APIKEY_TASK_STATUS_ERROR", "the task failed, was interrupted or cancelled"),
    "806": Code("APIKEY_USER_NOT_FOUND", "the API key's user does not exist", remedy=CHECK_KEY),
    "807": Code("APIKEY_TASK_NOT_FOUND", "there is no such task, or it belongs to another key"),
    "808": Code("APIKEY_UPLOAD_FAILED", "the upload failed", retryable=True),
    "809": Code("APIKEY_FILE_SIZE_EXCEEDED", "the file is too large"),
    "810": Code("WORKFLOW_NOT_SAVED_OR_NOT_RUNNING", "the workflow was never saved or run by hand", remedy=RUN_ONCE),
    "811": Code("CORPAPIKEY_INVALID", "the enterprise key is invalid"),
    "812": Code("CORPAPIKEY_INSUFFICIENT_FUNDS", "the enterprise account has too little money"),
    "813": Code("APIKEY_TASK_IS_QUEUED", "the task is queued", retryable=True),
    "814": Code("PERSONAL_QUEUE_COUNT_LIMIT", "too many tasks wait in the personal queue", retryable=True),
    "901": Code("WEBAPP_NOT_EXISTS", "there is no such AI app"),
    "1000": Code("UNKNOWN_ERROR", "unknown error", retryable=True),
    "1001": Code("INVALID_URL", "there is no such endpoint"),
    "1002": Code("INVALID_KEY", "the API key was not accepted", remedy=CHECK_KEY),
    "1003": Code("RATE_LIMITED", "too many requests", retryable=True),
    "1004": Code("TASK_NOT_FOUND", "the task does not exist or has expired"),
    "1005": Code("INTERNAL_ERROR", "internal error", retryable=True),
    "1006": Code("TASK_TIMEOUT", "the task took too long; it may be submitted anew"),
    "1007": Code("INVALID_PARAMETERS", "the parameters are invalid"),
    "1008": Code("FILE_TOO_LARGE", "the file is too large"),
    "1009": Code("NOT_SUPPORTED", "the operation is not supported"),
    "1010": Code("SERVICE_UNAVAILABLE", "the service is unavailable", retryable=True),
    "1011": Code("SYSTEM_BUSY", "the system is busy", retryable=True),
    "1012": Code("UPSTREAM_ERROR", "an upstream service answered badly", retryable=True),
    "1013": Code("FILE_FAILED", "the file could not be processed"),
    "1014": Code("ENTERPRISE_KEY_REQUIRED", "the Standard Model API needs an enterprise shared key", remedy=SHARED_KEY),
    "1015": Code("GENERATION_FAILED", "the generation failed; it may be submitted anew"),
    "1101": Code("NODE_INFO_ERROR", "the node information is wrong"),
    "1501": Code("CONTENT_REFUSED", "the content check refused it"),
    "1504": Code("MODEL_TIMEOUT", "the model took too long; it may be submitted anew"),
    "1505": Code("REAL_PEOPLE_REFUSED", "photorealistic real people are refused"),
    "1520": Code("USER_LIMIT", "the account's limit of concurrent tasks is reached", retryable=True),
    "1601": Code("APIKEY_REQUIRED", "the apiKey parameter is missing"),
    "40310": Code("FOREIGN_MODEL", "this model cannot be used on this site"),
    "not_sent": Code("NOT_SENT", "no connection to the provider could be made", retryable=True),
    "moved": Code("MOVED", "the provider's site is at another address", retryable=True),
    "unanswered": Code("UNANSWERED", "the request was sent, but no answer came", retryable=True),
    "unreadable": Code("UNREADABLE", "the answer could not be understood", retryable=True),
    "busy": Code("BUSY", "the provider is busy", retryable=True),
    "unclear": Code("UNCLEAR", "the provider met an error that it does not name", retryable=True),
    "refused": Code("REFUSED", "refused without a code"),
    "other_key": Code("OTHER_KEY", "the task is at another site, which must not see today's API key", remedy=SITE_BACK),
    "unsafe": Code("UNSAFE_ADDRESS", "the provider named an address that is not public"),
    "no_key": Code("NO_KEY", "no API key is configured: set RUNNINGHUB_API_KEY"),
}

NO_CODE = Code("FAILED", "the provider gave no reason")
NO_SUCH_TASK = frozenset({"1004", "807", "423"})
"""Codes that say that the provider does not know the task."""
RUN_FAILED = frozenset({"805", "1006", "1013", "1015", "1501", "1504", "1505"})
"""Codes that are said of a task's run, never of the question how it stands."""
BY_WORDS = frozenset({"busy", "unclear", "refused"})
"""What an answer without a code came to; a broken gateway's sentence proves nothing."""


def describe(code: str) -> Code:
    """The entry of a code, "" for none; an unknown one is named after itself and is not retryable."""
    known = CODES.get(code)
    if known is not None:
        return known
    if not code:
        return NO_CODE
    if code.startswith("http_"):
        status = code.removeprefix("http_")
        return Code(f"HTTP_{status}", f"HTTP status {status}", retryable=status == "429" or status.startswith("5"))
    return Code(f"CODE_{code}", "unknown code")


def told(code: str, message: str = "") -> str:
    """The sentence for a code: the provider's own, else what the code means; and what its reader can do, if anything.

    An identifier is no sentence where the code is known; it is shown beside it as its name.
    """
    entry = describe(code)
    said = message.replace("\x00", "").strip()
    if not said or (code in CODES and IDENTIFIER.fullmatch(said)):
        said = entry.meaning
    remedy = entry.remedy or next((hint for words, hint in HINTS if words in said), "")
    return f"{said.rstrip('.;')}; {remedy}" if remedy else said


class ProviderError(Failed):
    """RunningHub could not be reached, or answered no.

    `code` is the provider's code as text or one of ours, `http_status` is None when no answer came, `retry_after` is in
    seconds where the answer named one, `answer` is the beginning of the raw answer for the operator.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        http_status: int | None = None,
        retry_after: float | None = None,
        answer: bytes = b"",
    ) -> None:
        entry = describe(code)
        self.code = code
        self.name = entry.name
        self.meaning = told(code, message)
        self.retryable = entry.retryable
        self.http_status = http_status
        self.retry_after = retry_after
        self.answer = answer
        super().__init__(f"{self.name} ({code}): {self.meaning}")
