#!/usr/bin/env python3
"""check_style.py - the rules of the tree that a compiler does not check.

Format (clang-format), file and function lengths, words banned outside their room, a comment at the
head of every file, header names unique in the tree. Prints one line a finding; exit 1 if any.
Usage: tools/check_style.py            (needs clang-format and universal-ctags)
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES, FUNCTION_LINES, HEADER_LINES, PARAMETERS = 800, 70, 300, 6

# word pattern -> folders in which it is allowed (prefixes), and what to use instead
BANNED = [
    (r"\bgetenv\s*\(", ("server/config.c",), "options live in server/config.c"),
    (r"\b(malloc|calloc|realloc|free)\s*\(", ("server/base/mem.c", "kernels/", "tests/"), "use mem.h"),
    (r"\b(MHD_|uv_)\w+", ("server/http/", "tests/unit/http/"), "keep it in server/http"),
    (r"\b(sprintf|strcpy|strcat|atoi|atol|strtok|gets|alloca)\s*\(", (), "unbounded or unchecked"),
    (r"\b(TODO|FIXME|XXX)\b", (), "finish it or file it"),
]


def tracked(*patterns):
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *patterns], cwd=ROOT,
                         capture_output=True, text=True, check=True).stdout
    return [p for p in out.split() if (ROOT / p).is_file()]


def code_only(text):
    """The text with comments and string contents blanked, line structure kept."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def check_format(files):
    run = subprocess.run(["clang-format", "--dry-run", "--Werror", *files], cwd=ROOT,
                         capture_output=True, text=True)
    for line in run.stderr.splitlines():
        if " error: " in line:
            yield f"{line.split(': error:')[0]}: run clang-format -i"


def check_text(files):
    for f in files:
        text = (ROOT / f).read_text()
        lines = text.splitlines()
        limit = HEADER_LINES if f.endswith(".h") else FILE_LINES
        if len(lines) > limit:
            yield f"{f}: {len(lines)} lines, at most {limit}"
        if not lines or not lines[0].startswith("//"):
            yield f"{f}:1: begin with a comment that says what the file owns"
        code = code_only(text)
        for number, line in enumerate(code.splitlines(), 1):
            for pattern, allowed, why in BANNED:
                if re.search(pattern, line) and not f.startswith(allowed or ("//",)):
                    yield f"{f}:{number}: '{re.search(pattern, line).group(0)}': {why}"


def check_functions(files):
    run = subprocess.run(["ctags", "--output-format=json", "--fields=+neS", "--kinds-c=f", "-o", "-",
                          *files], cwd=ROOT, capture_output=True, text=True, check=True)
    for line in run.stdout.splitlines():
        tag = json.loads(line)
        if "end" not in tag or tag["name"].startswith("Test"):
            continue
        length = tag["end"] - tag["line"] + 1
        if length > FUNCTION_LINES:
            yield f"{tag['path']}:{tag['line']}: {tag['name']} has {length} lines, at most {FUNCTION_LINES}"
        signature = re.sub(r"\([^()]*\)", "", tag.get("signature", "()")[1:-1])  # function pointers
        count = signature.count(",") + 1
        # libmicrohttpd's callbacks have the parameters that it gives them.
        if count > PARAMETERS and "MHD_" not in tag["signature"]:
            yield f"{tag['path']}:{tag['line']}: {tag['name']} takes {count} parameters, at most {PARAMETERS}"


def check_headers(files):
    seen = {}
    for f in files:
        name = Path(f).name
        if name in seen:
            yield f"{f}: header name also used by {seen[name]}"
        seen[name] = f


def main():
    c_files = tracked("*.c", "*.h")
    sources = [f for f in c_files if f.startswith(("server/", "kernels/", "tests/", "clients/"))]
    findings = [*check_format(sources), *check_text(sources), *check_functions(sources),
                *check_headers([f for f in sources if f.endswith(".h")])]
    print("\n".join(findings))
    print(f"{len(sources)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
