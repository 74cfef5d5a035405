"""What became of a file: the task's result (docs/ingest-rules.md, "Result"). Each of them is a SUCCESS."""


def loaded(file_path, content):
    return {"status": "loaded", "file_path": file_path, **_content(content), "rows": content.rows}


def duplicate(file_path, content, duplicate_of):
    return {"status": "duplicate", "file_path": file_path, **_content(content), "duplicate_of": duplicate_of}


def quarantined(file_path, row):
    """`row` is the file's row in the ledger."""
    return {
        "status": "quarantined",
        "file_path": file_path,
        "sha256": row.sha256.hex() if row.sha256 else None,
        "reason": row.reason,
        "reasons": row.reasons["by_reason"],
        "quarantine_path": row.quarantine_path,
    }


def missing(file_path):
    return {"status": "missing", "file_path": file_path}


def _content(content):
    return {"sha256": content.sha256.hex(), "size_bytes": content.size_bytes}
