from __future__ import annotations

import os
import sys
from pathlib import Path
from uuid import uuid4

import pytest

sys.path.insert(0, str(Path(__file__).parent))

MONGO = os.environ.get("IONLOOP_TEST_MONGO_URI")
NEEDS_MONGO = [
    pytest.mark.integration,
    pytest.mark.skipif(not MONGO, reason="IONLOOP_TEST_MONGO_URI is not set"),
]


@pytest.fixture(params=["embedded", pytest.param("mongodb", marks=NEEDS_MONGO)])
def store(request, tmp_path):
    """An empty store of either kind."""
    from ionloop.stores.connect import open_store

    if request.param == "embedded":
        opened = open_store(tmp_path / "run.db")
        yield opened
        opened.close()
        return
    from pymongo import MongoClient

    name = f"monitor_{uuid4().hex[:8]}"
    opened = open_store(f"{MONGO}/{name}")
    yield opened
    opened.close()
    with MongoClient(MONGO) as client:
        client.drop_database(name)
