"""docs/protocol.md states the numbers that the code has."""
import ast
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")


def product(expression):
    """The value of sums and products of integers, which is all that an enum of limits holds."""
    return eval(compile(ast.parse(expression, mode="eval"), "limit", "eval"), {"__builtins__": {}})


def limits_of_code():
    header = (ROOT / "rpc/rpc_limits.h").read_text(encoding="utf-8")
    header = re.sub(r"//[^\n]*", "", header)
    return {name: product(value) for name, value in re.findall(r"\b(RPC_\w+) = ([0-9*+ ]+),", header)}


def limits_of_document():
    rows = re.findall(r"^\|[^|]*\| *([0-9]+) *\| *`(RPC_\w+)` *\|$", DOCUMENT, re.MULTILINE)
    return {name: int(value) for value, name in rows}


class Document(unittest.TestCase):
    def test_every_limit_is_stated_as_it_is(self):
        self.assertGreater(len(limits_of_code()), 10)
        self.assertEqual(limits_of_document(), limits_of_code())

    def test_status_codes_have_the_numbers_of_the_schema(self):
        schema = (ROOT / "proto/fc/rpc/v1/rpc.proto").read_text(encoding="utf-8")
        codes = dict(re.findall(r"^  ([A-Z_]+) = ([0-9]+);$", schema, re.MULTILINE))
        stated = re.findall(r"\| ([0-9]+) `([A-Z_]+)` \|", DOCUMENT)
        self.assertGreater(len(stated), 5)
        for number, name in stated:
            self.assertEqual(codes[name], number)

    def test_the_frame_has_the_version_of_the_code(self):
        header = (ROOT / "rpc/rpc_frame.h").read_text(encoding="utf-8")
        version = re.search(r"RPC_FRAME_VERSION = (\d+)", header)[1]
        self.assertRegex(DOCUMENT, rf"\n    0 +1 +version: {version}\n")

    def test_the_handshake_has_the_protocols_of_the_code(self):
        header = (ROOT / "rpc/sp_pipe.h").read_text(encoding="utf-8")
        for name, number in re.findall(r"\bSP_([A-Z]{3}) = (0x[0-9a-f]{2}),", header):
            self.assertIn(f"{number} for {name}", DOCUMENT)


if __name__ == "__main__":
    unittest.main()
