"""Against a live node: `OCELLI_URL=http://127.0.0.1:3298 python -m unittest discover clients/python/tests`; with
`OCELLI_TOKEN` of a node that has a wallet and mines, it also pays."""

import datetime
import itertools
import os
import pathlib
import unittest

import ocelli

URL = os.environ.get("OCELLI_URL", ocelli.DEFAULT_URL)
TOKEN = os.environ.get("OCELLI_TOKEN")
PICTURES = pathlib.Path(__file__).parents[3] / "assets" / "cifar10"
CAT = PICTURES / "cat-0000.jpg"


class Pictures(unittest.TestCase):
    def setUp(self) -> None:
        self.node = ocelli.Node(URL)

    def test_a_picture_is_answered_by_its_path_and_by_its_bytes(self) -> None:
        answer = ocelli.classify(CAT, url=URL)
        self.assertEqual((answer.label, answer.file, answer.model), ("cat", "cat-0000.jpg", "cifar10-cnn"))
        self.assertEqual(answer.top[0], ocelli.Class("cat", answer.probability, 3))
        self.assertEqual((len(answer.top), len(answer.logits)), (5, 10))
        self.assertEqual(answer.picture.done, "as_it_is")
        again = self.node.classify(CAT.read_bytes(), model=answer.model_id, top=1)
        self.assertEqual((again.logits, again.file, len(again.top)), (answer.logits, None, 1))

    def test_several_are_answered_in_their_order(self) -> None:
        files = sorted(PICTURES.glob("*.jpg"))
        answers = self.node.classify_all(files)
        self.assertEqual([answer.file for answer in answers], [file.name for file in files])
        self.assertEqual(answers[files.index(CAT)].logits, self.node.classify(CAT).logits)

    def test_what_is_refused_says_why_and_what_to_try(self) -> None:
        with self.assertRaises(ocelli.Problem) as raised:
            self.node.classify(b"words")
        problem = raised.exception
        self.assertEqual((problem.status, problem.kind), (415, "format"))
        self.assertEqual(problem.detail, "not a picture: expected PNG, JPEG, WebP, GIF or BMP")
        self.assertIn("hint: ", str(problem))
        with self.assertRaises(ocelli.Problem) as raised:
            self.node.classify_all([CAT, b"words"])
        self.assertEqual(len(raised.exception.causes), 1)
        with self.assertRaises(ocelli.Problem) as raised:
            self.node.classify(CAT, model="none")
        self.assertEqual(raised.exception.kind, "not-found")


@unittest.skipUnless(TOKEN, "the node has no wallet, or its token is not told")
class Paid(unittest.TestCase):
    def setUp(self) -> None:
        self.node = ocelli.Node(URL, TOKEN)

    def test_a_picture_is_paid_for_once_and_confirmed(self) -> None:
        answer = self.node.submit(CAT, key="one", confirmations=1)
        self.assertEqual((answer.label, answer.logits), ("cat", self.node.classify(CAT).logits))
        height = answer.task.height
        assert height is not None
        self.assertEqual((answer.task.state, self.node.block(height)["hash"]), ("confirmed", answer.task.block))
        again = self.node.submit(CAT, key="one")
        self.assertEqual(again.task.txid, answer.task.txid)
        self.assertEqual(int(self.node.wallet()["spent"]), answer.task.fee)
        deeper = self.node.wait(answer.task, confirmations=2)
        self.assertGreaterEqual(deeper.confirmations, 2)
        self.assertEqual((deeper.fee, deeper.txid), (answer.task.fee, answer.task.txid))
        paid = self.node.history(self.node.wallet()["address"], kinds=["task"], since=datetime.date(2020, 1, 1))
        (entry,) = [entry for entry in paid.entries if entry.txid == answer.task.txid]
        self.assertEqual((entry.kind, entry.height, entry.model), ("task", height, answer.model_id))
        self.assertEqual((entry.amount, entry.fee), (-answer.task.fee - answer.task.royalty, answer.task.fee))
        hurried = self.node.wait(answer.task, confirmations=100, timeout=0)
        self.assertLess(hurried.confirmations, 100)

    def test_what_has_happened_to_an_account_is_told_to_its_beginning(self) -> None:
        self.node.submit(CAT, key="one", confirmations=2)
        miner = self.node.status()["mining"]
        whole = self.node.history(miner, limit=1_000_000, kinds=["mined"])
        self.assertEqual((whole.address, whole.first, whole.next), (miner, 1, None))
        heights = [entry.height for entry in whole.entries]
        self.assertEqual(heights, sorted(set(heights), reverse=True))
        self.assertTrue(all(entry.kind == "mined" and entry.amount == entry.reward + entry.fees for entry in whole.entries))
        later = self.node.history(miner, limit=1, kinds=["mined"])
        self.assertEqual(len(later.entries), 1)
        earlier = self.node.history(miner, limit=1_000_000, before=later.next, kinds=["mined"])
        self.assertEqual(earlier.entries[-len(whole.entries):], whole.entries[-len(earlier.entries):])
        self.assertEqual(self.node.history(miner, until="2020-01-01").entries, ())
        with self.assertRaises(ocelli.Problem) as raised:
            self.node.history(miner, since="yesterday")
        self.assertEqual((raised.exception.status, raised.exception.kind), (400, "request"))

    def test_who_has_no_token_pays_nothing(self) -> None:
        with self.assertRaises(ocelli.Problem) as raised:
            ocelli.Node(URL, "wrong").submit(CAT)
        self.assertEqual((raised.exception.status, raised.exception.kind), (401, "token"))


class Chain(unittest.TestCase):
    def test_the_chain_is_told(self) -> None:
        node = ocelli.Node(URL)
        status = node.status()
        self.assertEqual(node.block(0)["hash"], status["genesis"])
        self.assertEqual(node.models()[0]["name"], "cifar10-cnn")
        with self.assertRaises(ocelli.Problem):
            node.transaction("ab" * 32)
        (start,) = itertools.islice(node.events(), 1)
        self.assertEqual((start.kind, start.data["missed"]), ("start", False))
        (again,) = itertools.islice(node.events(start.id), 1)
        self.assertFalse(again.data["missed"])


if __name__ == "__main__":
    unittest.main()
