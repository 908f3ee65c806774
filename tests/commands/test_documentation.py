"""The documentation's site is built without a warning, and its reference has every public name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import harness
import yoso

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site; strict, so that a broken link or an unknown name of the reference fails."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.parametrize("package", [harness, yoso])
def test_the_reference_has_every_public_name_with_its_documentation(site, package):
    page = (site / "api" / package.__name__ / "index.html").read_text(encoding="utf-8")
    for name in package.__all__:
        assert re.search(rf'id="{package.__name__}\.[\w.]*\b{name}"', page), name
        assert (getattr(package, name).__doc__ or "").strip(), name


def test_links_to_files_outside_the_documentation_lead_to_their_copies(site):
    page = (site / "gpu" / "index.html").read_text(encoding="utf-8")
    for link in re.findall(r'href="(\.\./(?:reports|source)/[^"#]+)"', page):
        target = site / "gpu" / link
        assert (target / "index.html" if link.endswith("/") else target).is_file(), link
    assert (site / "reports" / "index.html").read_bytes() == (ROOT / "reports" / "index.html").read_bytes()


def test_no_page_loads_anything_from_another_server(site):
    for page in ("index.html", "api/yoso/index.html"):
        text = (site / page).read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//[^"]+"', text)
