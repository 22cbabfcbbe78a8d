"""What is the file's alone: one owner, durable commits, no newer schema."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from app.storage.sqlite import SQLiteStore
from app.storage.store import DatabaseInUse, NewerSchema, Unusable


def test_a_second_process_on_a_file_is_told_who_has_it(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "a.db")
    code = f"from pathlib import Path; import app.storage.sqlite as s; s.SQLiteStore(Path({str(tmp_path / 'a.db')!r}))"
    second = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    store.close()
    third = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert second.returncode != 0
    assert "DatabaseInUse" in second.stderr
    assert third.returncode == 0, third.stderr


def test_a_file_cannot_be_opened_twice_in_one_process_either(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "a.db")
    with pytest.raises(DatabaseInUse):
        SQLiteStore(tmp_path / "a.db")
    store.close()


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="no directory"):
        SQLiteStore(tmp_path / "mistyped" / "a.db")
    assert list(tmp_path.iterdir()) == []


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(NewerSchema, match="99"):
        SQLiteStore(tmp_path / "a.db")


def test_every_commit_waits_for_the_disk(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "a.db")
    with store.datastore.transaction(commit=True) as cursor:
        cursor.execute("PRAGMA synchronous")
        assert cursor.fetchone()[0] == 2
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone()[0] == "wal"
    store.close()
