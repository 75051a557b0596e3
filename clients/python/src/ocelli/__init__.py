"""Asks an Ocelli node over HTTP what is in pictures.

    >>> import ocelli
    >>> ocelli.classify("cat.jpg").label
    'cat'
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

__all__ = ["Answer", "Class", "Entry", "Event", "History", "Node", "Paid", "Picture", "Problem", "Task", "classify", "submit"]

#: Where a node of this machine answers unless it is told otherwise.
DEFAULT_URL = "http://127.0.0.1:3298"

#: A file's path, or its bytes.
File = Union[str, "os.PathLike[str]", bytes]

#: A day or a time with its zone; as a text it is what the node reads, such as ``2026-11-30`` or ``2026-11-30T12:00:00Z``.
Time = Union[str, date]

#: The most entries that a node tells at once.
_PAGE = 256


class Problem(Exception):
    """What a node refuses, in its words (RFC 9457).

    ``status`` is the HTTP status, ``kind`` the word that names the kind of problem, ``detail`` what was found and expected, ``causes``
    each picture that cannot be used, ``hint`` what to try, and ``retry_after`` the seconds after which to ask again.
    """

    def __init__(self, status: int, document: Mapping[str, Any], retry_after: Optional[float] = None) -> None:
        self.status = status
        self.kind = str(document.get("type", "")).rsplit(":", 1)[-1]
        self.detail = str(document.get("detail", f"the node answers {status}"))
        self.causes: List[str] = list(document.get("causes", []))
        self.hint: Optional[str] = document.get("hint")
        self.retry_after = retry_after
        lines = [self.detail, *(f"  {cause}" for cause in self.causes)]
        super().__init__("\n".join(lines + ([f"hint: {self.hint}"] if self.hint else [])))


@dataclass(frozen=True)
class Class:
    """A class of a model: its name, its probability (0 to 1, for display), and its place among the model's classes."""

    label: str
    probability: float
    index: int


@dataclass(frozen=True)
class Picture:
    """What became of a file before the model saw it, with SHA-256 in hexadecimal of the file and of what a task would carry."""

    what: str
    done: str
    form: str
    width: int
    height: int
    bytes: int
    sha256: str
    file_bytes: int
    file_sha256: str


@dataclass(frozen=True)
class Task:
    """What a node has paid for, and what became of it.

    ``state`` is ``pending``, ``confirmed`` or ``dropped``; ``fee`` and ``royalty`` are in grains, of which 100,000,000 are a credit.
    """

    txid: str
    state: str
    confirmations: int
    block: Optional[str]
    height: Optional[int]
    fee: int
    royalty: int
    reason: Optional[str] = None


@dataclass(frozen=True)
class Answer:
    """What a node says of a picture: its own run. Unless it is paid for it is on no chain, and checked by nobody else."""

    label: str
    probability: float
    top: Tuple[Class, ...]
    model: str
    model_id: str
    picture: Picture
    #: What the model answers, exactly.
    logits: Tuple[int, ...]
    #: The file's name, where there is one.
    file: Optional[str]


@dataclass(frozen=True)
class Paid(Answer):
    """An answer that every node of the network checks, once its ``task`` is in a block."""

    task: Task


@dataclass(frozen=True)
class Entry:
    """Something that has happened to an account.

    ``time`` is the block's, in seconds since 1970, and ``height`` its height. ``kind`` is ``mined``, ``royalty``, ``received``, ``sent``,
    ``task``, ``upload``, ``part`` or ``publish``. ``amount`` is what the balance changes by, less than 0 where it takes, with the ``fee`` in
    it; of what was mined, ``reward`` and ``fees`` are its parts. All of them are in grains, of which 100,000,000 are a credit.
    """

    time: int
    height: int
    kind: str
    amount: int
    fee: int
    reward: int
    fees: int
    #: The address at the other end.
    party: Optional[str]
    #: The id of the model that was asked or published.
    model: Optional[str]
    txid: Optional[str]


@dataclass(frozen=True)
class History:
    """What has happened to an account, the latest first, by the node's word.

    ``balance`` is in grains, at the tip whose ``height`` and hash stand beside it. The node has entries from block ``first`` on: all of
    them if that is 1. With ``next`` as ``before`` one asks for what came earlier; it is None where the node has no more.
    """

    address: str
    balance: int
    height: int
    tip: str
    first: int
    entries: Tuple[Entry, ...]
    next: Optional[str] = None


@dataclass(frozen=True)
class Event:
    """Something that happened: ``start``, ``block``, ``reorganization``, ``mempool`` or ``task``. With its id one listens on."""

    kind: str
    id: str
    data: Dict[str, Any]


class Node:
    """A node's HTTP API."""

    def __init__(self, url: str = DEFAULT_URL, token: Optional[str] = None, timeout: float = 60.0, retries: int = 3) -> None:
        """
        :param url: where the node answers.
        :param token: what the file ``api-token`` of its data folder holds; beyond its own machine a node wants it.
        :param timeout: seconds to wait for an answer.
        :param retries: how often a node that has too much to do is asked again.
        """
        self.url = url.rstrip("/")
        self._token = token
        self._timeout = timeout
        self._retries = retries

    def classify(self, file: File, model: Optional[str] = None, top: int = 5) -> Answer:
        """Says what is in a picture: JPEG, PNG, WebP, GIF or BMP.

        :param file: its path or its bytes.
        :param model: the model's name or id; the network's first unless it is named.
        :param top: how many classes are named.
        :raises Problem: if it cannot be used, or the node has too much to do.
        """
        name, contents = _read(file)
        answer = self._json("POST", "/v1/classify", _parameters(model, top), contents, "application/octet-stream")
        return Answer(**_answer(answer, name))

    def classify_all(self, files: Sequence[File], model: Optional[str] = None, top: int = 5) -> List[Answer]:
        """Says what is in each of at most 64 pictures, in their order; see :meth:`classify`."""
        boundary = uuid.uuid4().hex
        parts = []
        for name, contents in map(_read, files):
            quoted = urllib.parse.quote(name or "picture", safe=" .()[]+,=@!~")
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n\r\n'
            parts.append(head.encode() + contents + b"\r\n")
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        answers = self._json("POST", "/v1/classify", _parameters(model, top), body, kind)["answers"]
        names = (_read_name(file) for file in files)
        return [Answer(**_answer(answer, name)) for name, answer in zip(names, answers)]

    def submit(
        self,
        file: File,
        model: Optional[str] = None,
        top: int = 5,
        confirmations: int = 0,
        timeout: float = 60.0,
        key: Optional[str] = None,
    ) -> Paid:
        """Has the node pay for a picture, so that every node of the network checks the answer; see :meth:`classify`.

        It is paid for once, also where the connection breaks and the node is asked again.

        :param confirmations: how many are waited for; with 0 the task is still pending.
        :param timeout: seconds to wait for them. If they do not come in time, the task is told as it is then: see :meth:`wait`.
        :param key: names the order, for who wants to ask again in another run: letters, digits and signs, such as a UUID.
        :raises Problem: if nothing was paid for: without the token, a wallet, or room in the day's limit.
        """
        name, contents = _read(file)
        begun = time.monotonic()
        parameters = [*_parameters(model, top), ("confirm", "1")]
        headers = {"Content-Type": "application/octet-stream", "Idempotency-Key": key or str(uuid.uuid4())}
        said = self._json("POST", "/v1/classify", parameters, contents, headers=headers, is_safe=True)
        answer = Paid(**_answer(said, name), task=_task(said["task"]))
        if confirmations == 0:
            return answer
        left = timeout - (time.monotonic() - begun)
        return replace(answer, task=self.wait(answer.task, confirmations, left))

    def wait(self, task: Task, confirmations: int = 1, timeout: float = 60.0) -> Task:
        """Waits until a task is so deep in the chain, is dropped, or the time is up; tells what it is then.

        :param confirmations: at most 100.
        :param timeout: in seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            # Shorter than the connection may be silent.
            seconds = max(0, min(int(deadline - time.monotonic()), int(self._timeout / 2), 600))
            parameters = [("wait", str(confirmations)), ("timeout", str(seconds))]
            told = self._json("GET", f"/v1/transactions/{_quote(task.txid)}", parameters, is_safe=True)
            changed: Dict[str, Any] = {name: told.get(name) for name in ("state", "confirmations", "block", "height", "reason")}
            task = replace(task, **changed)
            is_done = task.confirmations >= confirmations or task.state == "dropped"
            if is_done or time.monotonic() >= deadline or (seconds == 0 and deadline - time.monotonic() < 1):
                return task

    def wallet(self) -> Dict[str, Any]:
        """The wallet that pays: its address, its balance, and of the day's limit what was spent; in grains, as digits."""
        return self._json("GET", "/v1/wallet")

    def models(self) -> List[Dict[str, Any]]:
        """The models of the network, the one first that is meant where none is named."""
        return list(self._json("GET", "/v1/models")["models"])

    def status(self) -> Dict[str, Any]:
        """How the node is: what ``ocelli status --json`` prints."""
        return self._json("GET", "/v1/status")

    def block(self, block: Union[int, str]) -> Dict[str, Any]:
        """A block by its height or hash."""
        return self._json("GET", f"/v1/blocks/{_quote(block)}")

    def transaction(self, txid: str) -> Dict[str, Any]:
        """A transaction: ``state`` is ``pending``, ``confirmed`` or ``dropped``."""
        return self._json("GET", f"/v1/transactions/{_quote(txid)}")

    def account(self, address: str) -> Dict[str, Any]:
        """An account; amounts and nonces are strings of digits."""
        return self._json("GET", f"/v1/accounts/{_quote(address)}")

    def history(
        self,
        address: str,
        limit: int = 100,
        before: Optional[str] = None,
        since: Optional[Time] = None,
        until: Optional[Time] = None,
        kinds: Sequence[str] = (),
    ) -> History:
        """What has happened to an account, the latest first.

        A reorganisation meanwhile may have an entry told twice, or not at all; the tip of a later answer shows it.

        :param limit: how many entries at most. The node is asked again until there are so many, or it has no more.
        :param before: the ``next`` of an answer, to go on where that ended.
        :param since: only from this time on; a day begins at midnight UTC.
        :param until: only up to this time; of a day, its end.
        :param kinds: only these; see :class:`Entry`. All of them if there are none.
        :raises Problem: if the node keeps no history, ``no-ledger``, or none of blocks so early.
        """
        filters = [*_time("since", since), *_time("until", until)]
        if kinds:
            filters.append(("kind", ",".join(kinds)))
        tip: Optional[Dict[str, Any]] = None
        entries: List[Entry] = []
        while True:
            parameters = [("limit", str(min(limit - len(entries), _PAGE))), *filters]
            if before is not None:
                parameters.append(("before", before))
            said = self._json("GET", f"/v1/accounts/{_quote(address)}/history", parameters, is_safe=True)
            tip = tip or said
            entries += map(_entry, said["entries"])
            before = said["next"]
            if before is None or len(entries) >= limit:
                break
        return History(
            address=tip["address"],
            balance=int(tip["balance"]),
            height=tip["height"],
            tip=tip["tip"],
            first=said["from"],
            entries=tuple(entries),
            next=before,
        )

    def events(self, last_id: Optional[str] = None) -> Iterator[Event]:
        """What happens, for as long as one listens.

        :param last_id: the id of the last event that was seen; what came since is told first.
        """
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        with self._open("GET", "/v1/events", headers=headers) as stream:
            fields: Dict[str, str] = {}
            for line in stream:
                text = line.decode().rstrip("\r\n")
                name, _, value = text.partition(": ")
                if text and name:
                    fields[name] = value
                elif not text:
                    if "data" in fields:
                        yield Event(fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"]))
                    fields = {}

    def _json(
        self,
        method: str,
        path: str,
        parameters: Iterable[Tuple[str, str]] = (),
        body: Optional[bytes] = None,
        kind: Optional[str] = None,
        headers: Optional[Dict[str, str]] = None,
        is_safe: bool = False,
    ) -> Dict[str, Any]:
        """JSON, asked for again where the node has too much to do; and where the connection breaks, if that ``is_safe``."""
        query = urllib.parse.urlencode(list(parameters))
        headers = headers or ({} if kind is None else {"Content-Type": kind})
        for left in reversed(range(self._retries + 1)):
            try:
                with self._open(method, f"{path}?{query}" if query else path, body, headers) as answer:
                    document: Dict[str, Any] = json.load(answer)
                    return document
            except Problem as problem:
                if problem.status != 503 or problem.retry_after is None or left == 0:
                    raise
                time.sleep(problem.retry_after)
            except (OSError, http.client.HTTPException):
                if not is_safe or left == 0:
                    raise
                time.sleep(0.5)
        raise AssertionError("the last try returns or raises")

    def _open(self, method: str, path: str, body: Optional[bytes] = None, headers: Optional[Dict[str, str]] = None) -> Any:
        request = urllib.request.Request(self.url + path, data=body, headers=headers or {}, method=method)
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            return urllib.request.urlopen(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            with error:
                try:
                    document = json.load(error)
                except ValueError:
                    document = {}
            retry_after = error.headers.get("Retry-After", "")
            raise Problem(error.code, document, float(retry_after) if retry_after.isdigit() else None) from None


def classify(file: File, model: Optional[str] = None, top: int = 5, url: str = DEFAULT_URL) -> Answer:
    """Says what is in a picture, by the node of this machine; see :meth:`Node.classify`."""
    return Node(url).classify(file, model, top)


def submit(file: File, token: str, model: Optional[str] = None, confirmations: int = 1, url: str = DEFAULT_URL) -> Paid:
    """Has the node of this machine pay for a picture, and waits for a block; see :meth:`Node.submit`."""
    return Node(url, token).submit(file, model, confirmations=confirmations)


def _parameters(model: Optional[str], top: int) -> List[Tuple[str, str]]:
    named = [] if model is None else [("model", model)]
    return [*named, ("top", str(top)), ("logits", "1")]


def _time(name: str, time: Optional[Time]) -> List[Tuple[str, str]]:
    if time is None:
        return []
    return [(name, time if isinstance(time, str) else time.isoformat())]


def _read_name(file: File) -> Optional[str]:
    return None if isinstance(file, bytes) else os.path.basename(os.fspath(file))


def _read(file: File) -> Tuple[Optional[str], bytes]:
    if isinstance(file, bytes):
        return None, file
    with open(file, "rb") as opened:
        return _read_name(file), opened.read()


def _quote(part: Union[int, str]) -> str:
    return urllib.parse.quote(str(part), safe="")


def _answer(said: Mapping[str, Any], file: Optional[str]) -> Dict[str, Any]:
    return {
        "label": said["label"],
        "probability": said["probability"],
        "top": tuple(Class(one["label"], one["probability"], one["index"]) for one in said["top"]),
        "model": said["model"]["name"],
        "model_id": said["model"]["id"],
        "picture": Picture(**{name: said["picture"][name] for name in Picture.__dataclass_fields__}),
        "logits": tuple(said["logits"]),
        "file": file,
    }


def _entry(said: Mapping[str, Any]) -> Entry:
    fields: Dict[str, Any] = {name: said[name] for name in ("time", "height", "kind", "model", "txid")}
    fields.update({name: int(said[name]) for name in ("amount", "fee", "reward", "fees")})
    # `with` is a word of Python's own.
    return Entry(**fields, party=said["with"])


def _task(said: Mapping[str, Any]) -> Task:
    fields: Dict[str, Any] = {name: said[name] for name in ("txid", "state", "confirmations", "block", "height")}
    fields.update({name: int(said[name]) for name in ("fee", "royalty")})
    return Task(**fields, reason=said.get("reason"))
