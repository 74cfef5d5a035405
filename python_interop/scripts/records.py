"""Bytes to CSV records: the strict and bounded half of reading (docs/ingest-rules.md, "Bytes to records").

The `csv` module is forgiving: it joins text behind a closing quote and takes a stray quote literally. So records are
found here: where they end (LF, CRLF or CR outside of quotes), on which line they begin, and what is wrong with their
quotes, their encoding or their size. Memory stays at about two records, whatever the file holds.
"""
import hashlib
import re

from scripts.report import Violation, cut

MAX_RECORD_BYTES = 1 << 20

READ_BYTES = 256 << 10

_BOM = b"\xef\xbb\xbf"

# A record from its start to the line break that ends it, or to where the bytes at hand end. A quoted field goes on to a
# quote that is not doubled, whatever line breaks are in between; with a quote never closed it goes on to the end.
_FIELD = rb'(?:"[^"]*(?:""[^"]*)*(?:"(?!")[^,\r\n]*|\Z)|[^",\r\n][^,\r\n]*|)'
_RECORD = re.compile(rb"%s(?:,%s)*" % (_FIELD, _FIELD))

_LINE_BREAK = re.compile(rb"\r\n|\n|\r")

# One field of a record that has quotes: quoted (closed, and what stands behind the quote), never closed, or bare.
_PARTS = re.compile(r'"([^"]*(?:""[^"]*)*)(?:"(?!")([^,\r\n]*)|\Z)|([^,\r\n]*)')


class Records:
    """The records of a file. Iterating yields `(line, fields)`, or `(line, Violation)` for a record that has no fields.

    `read(count)` yields the next bytes of the file, none at its end. The hash is that of all bytes once the iteration
    has ended, or `finish` was called.
    """

    def __init__(self, read):
        self._read = read
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        self._buffer = b""
        self._start = 0
        self._at_eof = False
        self._line = 1

    def __iter__(self):
        self._skip_byte_order_mark()
        while True:
            end, break_bytes = self._end_of_record()
            line, start = self._line, self._start
            if end - start > MAX_RECORD_BYTES:
                rule = f"at most {MAX_RECORD_BYTES} bytes in a record (is a quote not closed?)"
                yield line, Violation("malformed", rule, line=line, text=cut(self._buffer[start:end]))
                # What follows cannot be told apart any more.
                return
            raw = self._buffer[start:end]
            self._start = end + break_bytes
            self._line += bool(break_bytes)
            if raw:
                if b'"' in raw:
                    self._line += len(_LINE_BREAK.findall(raw))
                yield line, _fields(line, raw)
            elif not break_bytes:
                return

    def finish(self):
        """Reads what is left, so that the hash covers all bytes; the hash."""
        while not self._at_eof:
            self._buffer, self._start = b"", 0
            self._fill()
        return self._hash.digest()

    def _end_of_record(self):
        """Where the record at the start ends, and the length of its line break (0: the end of the file)."""
        while True:
            buffer = self._buffer
            end = _RECORD.match(buffer, self._start).end()
            at = buffer[end : end + 2]
            if at == b"\r\n":
                return end, 2
            # A CR at the end of the bytes at hand may be the first half of a CRLF.
            if at[:1] == b"\n" or (at[:1] == b"\r" and (len(at) == 2 or self._at_eof)):
                return end, 1
            if self._at_eof or end - self._start > MAX_RECORD_BYTES:
                return end, 0
            self._fill()

    def _fill(self):
        more = self._read(READ_BYTES)
        self._at_eof = not more
        self._hash.update(more)
        self.size_bytes += len(more)
        self._buffer = self._buffer[self._start :] + more
        self._start = 0

    def _skip_byte_order_mark(self):
        while len(self._buffer) < len(_BOM) and not self._at_eof:
            self._fill()
        if self._buffer.startswith(_BOM):
            self._start = len(_BOM)


def _fields(line, raw):
    """The fields of a record, or what is wrong with it."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        # Before the quotes: that it is no text says more about a gzip file than what its bytes look like.
        return Violation("encoding", "text in UTF-8", line=line, text=cut(raw))
    if '"' not in text:
        return text.split(",")
    # Every field quoted, and no quote but theirs: a third of the work, and how most files with quotes look.
    fields = text[1:-1].split('","')
    if text[0] == text[-1] == '"' and text.count('"') == 2 * len(fields):
        return fields
    fields, flaw = _quoted_fields(text)
    if flaw:
        return Violation("malformed", flaw, line=line, text=cut(raw))
    return fields


def _quoted_fields(text):
    """The fields of a record with quotes, and the first flaw among them (none: None)."""
    fields, flaw, at = [], None, 0
    while True:
        match = _PARTS.match(text, at)
        quoted, behind, bare = match.groups()
        if quoted is None:
            fields.append(bare)
            if '"' in bare:
                flaw = flaw or "quotes only around a whole field"
        elif behind is None:
            return fields, "every quote closed"
        else:
            fields.append(quoted.replace('""', '"'))
            if behind:
                flaw = flaw or "nothing behind a closing quote"
        at = match.end() + 1
        if at > len(text):
            return fields, flaw
