"""What cmake --install leaves, and a C program that is built with nothing but that."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from fcd_process import FcTestCase, check_report, clean_environment, limit

HELLO = pathlib.Path(__file__).resolve().parent.parent / "hello.c"


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit(60), check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Install(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prefix = pathlib.Path(tempfile.mkdtemp(prefix="fc-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.prefix, ignore_errors=True)
        run(os.environ["CMAKE"], "--install", os.environ["BUILD"], "--prefix", str(cls.prefix))
        (config,) = cls.prefix.glob("lib/**/libfc.pc")
        cls.library_folder = config.parent.parent
        cls.env = clean_environment(PKG_CONFIG_PATH=str(config.parent), LD_LIBRARY_PATH=str(cls.library_folder))

    def flags(self, *options):
        return run("pkg-config", *options, "libfc", env=self.env).split()

    def compile(self, source, program):
        run(os.environ["CC"], *os.environ["CFLAGS"].split(), "-std=c11", "-Wall", "-Werror", "-o", program, source,
            *self.flags("--cflags", "--libs"), env=self.env)

    def test_everything_is_there(self):
        for name in ("bin/fc", "bin/fc-cli", "bin/fcd", "bin/fc-gen", "share/man/man1/fc.1", "share/man/man1/fc-cli.1",
                     "share/man/man8/fcd.8", "share/bash-completion/completions/fc",
                     "share/bash-completion/completions/fc-cli", "share/zsh/site-functions/_fc-cli",
                     "share/fish/vendor_completions.d/fc.fish", "share/fish/vendor_completions.d/fc-cli.fish",
                     "share/fc/proto/fc/chat/v1/chat.proto"):
            with self.subTest(name=name):
                self.assertTrue((self.prefix / name).is_file())
        version = run(str(self.prefix / "bin/fc-cli"), "--version", env=self.env)
        self.assertEqual(version, run(str(self.prefix / "bin/fc"), "--version", env=self.env))
        self.assertEqual(version.split(), ["fc", *self.flags("--modversion")])

    def test_the_config_names_where_it_was_installed(self):
        (proto,) = self.flags("--variable=protodir")
        self.assertTrue(os.path.samefile(proto, self.prefix / "share/fc/proto"))

    def test_every_header_stands_on_its_own(self):
        headers = self.prefix / "include/fc"
        found = sorted(path.relative_to(headers) for path in headers.rglob("*.h"))
        for header in ("client/fc_session.h", "fc/chat/v1/chat.pb-c.h", "fc/chat/v1/chat.stub.h"):
            self.assertIn(pathlib.Path(header), found)
        self.assertEqual([path for path in found if path.name.endswith("_priv.h")], [])
        source = self.prefix / "headers.c"
        for header in found:
            with self.subTest(header=header):
                source.write_text(f'#include "{header}"\nint main(void) {{ return 0; }}\n')
                self.compile(str(source), str(self.prefix / "headers"))

    def test_every_typed_call_has_what_it_calls(self):
        headers = self.prefix / "include/fc"
        includes = []
        functions = []
        for header in sorted(headers.rglob("*.stub.h")):
            includes.append(f'#include "{header.relative_to(headers)}"\n')
            functions += re.findall(r"^(\w+)\((?:const )?struct rpc_unary \*", header.read_text(), re.MULTILINE)
        self.assertIn("fc_chat_v1_chat_send", functions)
        pointers = "".join(f"(function *){name}, " for name in functions)
        source = self.prefix / "calls.c"
        source.write_text(f"{''.join(includes)}typedef void function(void);\nfunction *const all[] = {{{pointers}}};\n"
                          "int main(void) { return all[0] == 0; }\n")
        self.compile(str(source), str(self.prefix / "calls"))

    def test_the_library_exports_what_its_headers_declare(self):
        declared = set()
        for header in (self.prefix / "include/fc").rglob("*.h"):
            if not header.name.endswith((".pb-c.h", ".stub.h")):
                declared |= set(re.findall(r"^(?!typedef|//)\w[^;{}()]*?\b(\w+)\(", header.read_text(), re.MULTILINE))
        declared = {name for name in declared if not name.startswith("rpc_tls_server_")}  # fcd's half of rpc_tls.h
        symbols = run("nm", "-D", "--defined-only", str(self.library_folder / "libfc.so"))
        exported = {line.split()[-1] for line in symbols.splitlines() if not re.search(r" (fc__|_)", line)}
        self.assertEqual(declared, exported)

    def test_a_program_logs_in_and_sends(self):
        hello = str(self.prefix / "hello")
        self.compile(str(HELLO), hello)
        alice = self.person("alice")
        alice.run("room", "create", "kitchen", "--plain")

        def say(*arguments, password="a long password"):
            done = subprocess.run([hello, self.fcd.url, *arguments], input=password, capture_output=True, text=True,
                                  timeout=limit(30), env=self.env, check=False)
            check_report("hello", done.stderr)
            return done

        said = say("alice", "kitchen", "Hello from C")
        self.assertEqual((said.returncode, said.stdout, said.stderr), (0, "message 1 of kitchen\n", ""))
        message = alice.run("history", "kitchen", "--json").object
        self.assertEqual((message["sender"], message["text"]), ("alice", "Hello from C"))
        for arguments, password in ((("alice", "nowhere", "x"), "a long password"), (("alice", "kitchen", "x"), "wrong")):
            refused = say(*arguments, password=password)
            self.assertEqual((refused.returncode, refused.stdout), (1, ""))
            self.assertRegex(refused.stderr, rf"\A{re.escape(hello)}: [^\n]+\n\Z")

    def test_a_program_has_typed_calls_of_its_own_services(self):
        proto = self.prefix / "tea.proto"
        proto.write_text('syntax = "proto3"; package tea; service Tea { rpc Brew(Cup) returns (Cup); } message Cup {}')
        run(os.environ["PROTOC_C"], f"-I{self.prefix}", f"--c_out={self.prefix}", "--include_source_info",
            f"--descriptor_set_out={self.prefix / 'tea.pb'}", str(proto))
        run(str(self.prefix / "bin/fc-gen"), str(self.prefix / "tea.pb"), str(self.prefix), "tea.proto", env=self.env)
        source = self.prefix / "tea.c"
        source.write_text("""#include "tea.pb-c.c"
#include "tea.stub.h"
int main(int argc, char **argv)
{
    struct rpc_channel *channel = NULL;
    struct rpc_unary call;
    Tea__Cup cup = TEA__CUP__INIT;
    if (argc != 2 || rpc_channel_new(&(struct rpc_channel_options){.url = argv[1]}, &channel, NULL) != ERR_OK) {
        return 1;
    }
    tea_tea_init(&call, channel);
    enum err err = tea_tea_brew(&call, &cup, NULL);
    rpc_unary_deinit(&call);
    rpc_channel_free(&channel);
    return err == ERR_UNIMPLEMENTED ? 0 : 1;
}
""")
        self.compile(str(source), str(self.prefix / "tea"))
        run(str(self.prefix / "tea"), self.fcd.url, env=self.env)


if __name__ == "__main__":
    unittest.main()
