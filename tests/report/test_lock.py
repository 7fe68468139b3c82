"""The lock and the list of licences say what pip's report says, and pin what requirements.txt asks for."""

import re

from src.report.lock import canonical, licence, licences, lock
from tests.conftest import ROOT


def entry(name, version, **about):
    return {
        "metadata": {"name": name, "version": version, **about},
        "download_info": {"archive_info": {"hashes": {"sha256": name[0] * 64}}},
    }


REPORT = {
    "environment": {"python_version": "3.11"},
    "install": [
        entry("b_tool", "2.0", classifier=["License :: OSI Approved :: MIT License", "Topic :: x"]),
        entry("A", "1.0", license_expression="BSD-3-Clause", license="other"),
    ],
}


def test_every_package_has_its_version_and_hash_in_order():
    lines = lock(REPORT).splitlines()
    assert lines[0].endswith("Python 3.11.")
    assert lines[3:] == [
        "a==1.0 \\", f"    --hash=sha256:{'A' * 64}", "b-tool==2.0 \\", f"    --hash=sha256:{'b' * 64}",
    ]  # fmt: skip


def test_a_licence_is_what_the_package_says():
    rows = licences(REPORT).splitlines()[-2:]
    assert rows == ["| a | 1.0 | BSD-3-Clause |", "| b-tool | 2.0 | MIT License |"]
    assert licence({"license": "Some words\nand more"}) == "Some words"
    assert licence({}) == licence({"name": "no-such-package"}) == "not stated in pip's report"
    assert licence({"name": "numpy"}).startswith("BSD-3-Clause")


def test_the_lock_pins_what_is_required():
    required = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M))
    text = (ROOT / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", text, re.M))
    assert len(required) > 15
    assert {canonical(name): number for name, number in required.items()}.items() <= locked.items()
    listed = re.findall(r"^\| (\w[\w-]*) \| (\S+) \|", (ROOT / "docs/licences.md").read_text(), re.M)
    assert dict(listed[1:]) == locked
