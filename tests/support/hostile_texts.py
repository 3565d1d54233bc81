"""Hostile and broken texts, Markdown, HTML, reStructuredText, e-mails and message logs.

Names are `kind: case`. Each is refused or read in bounded time and memory.
"""

from __future__ import annotations

import codecs
import random
from collections.abc import Mapping

MEGABYTE = 1024 * 1024
MANY = 100_000
_ARABIC = {ord("0") + digit: chr(0x660 + digit) for digit in range(10)}

Cases = dict[str, tuple[str, bytes]]
"""Name of the file and its bytes, by `kind: case`."""


def hostile_texts() -> Cases:
    """Return all cases."""
    return {
        **_named(".txt", hostile_encodings()),
        **_named(".txt", hostile_plain()),
        **_named(".txt", hostile_logs()),
        **_named(".md", hostile_markdown()),
        **_named(".html", hostile_html()),
        **_named(".rst", hostile_restructured()),
        **_named(".eml", hostile_emails()),
        **_named(".mbox", hostile_mailboxes()),
    }


def _named(suffix: str, cases: Mapping[str, bytes]) -> Cases:
    return {name: ("hostile" + suffix, data) for name, data in cases.items()}


def hostile_encodings() -> dict[str, bytes]:
    """Bytes that are no text, or text in an encoding that lies."""
    noise = random.Random(7).randbytes(MEGABYTE)
    return {
        "encoding: lone surrogate in UTF-8": b"before \xed\xa0\x80 after",
        "encoding: surrogate pair in UTF-8": b"before \xed\xa0\xbd\xed\xb8\x80 after",
        "encoding: only lone surrogates": b"\xed\xb0\x80" * 1000,
        "encoding: lone surrogate in UTF-16": codecs.BOM_UTF16_LE + b"a\0\x00\xd8b\0",
        "encoding: half a unit of UTF-16": codecs.BOM_UTF16_BE + b"\0a\0",
        "encoding: units beyond Unicode in UTF-32": codecs.BOM_UTF32_LE + b"\xff" * 400,
        "encoding: overlong UTF-8": b"a\xc0\x80b\xe0\x80\xafc\xf0\x80\x80\xaf",
        "encoding: five-byte UTF-8": b"\xf8\x88\x80\x80\x80 and text" * 100,
        "encoding: UTF-7": b"+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
        "encoding: ISO-2022-JP": "会議は三時です。".encode("iso2022_jp") * 100,
        "encoding: EBCDIC": "This is a text of a mainframe.".encode("cp037") * 100,
        "encoding: UTF-8 and Latin-1 by turns": ("Größe\n".encode() + "Größe\n".encode("cp1252"))
        * 1000,
        "encoding: UTF-8 that turns to UTF-16": b"text\n" * 100 + "text\n".encode("utf-16") * 100,
        "encoding: mojibake twice": "Größe".encode().decode("cp1252").encode() * 1000,
        "encoding: continuation bytes only": b"\x80" * MEGABYTE,
        "encoding: noise": noise,
        "encoding: noise without NUL": noise.replace(b"\0", b"\xff"),
        "BOM: alone": codecs.BOM_UTF8,
        "BOM: of UTF-16 alone": codecs.BOM_UTF16_LE,
        "BOM: of UTF-32 before UTF-8": codecs.BOM_UTF32_BE + b"plain text",
        "BOM: in the middle": b"one\n" + codecs.BOM_UTF8 + b"two\n" + codecs.BOM_UTF8 * 1000,
        "BOM: all of them": codecs.BOM_UTF8 + codecs.BOM_UTF16_LE + codecs.BOM_UTF16_BE + b"a",
        "NUL: one": b"text\0text",
        "NUL: many": bytes(MEGABYTE),
        "NUL: at the end of a megabyte": b"a" * MEGABYTE + b"\0",
        "NUL: in UTF-16": "a\0b".encode("utf-16"),
    }


def hostile_plain() -> dict[str, bytes]:
    """Plain texts whose form is a trap."""
    return {
        "long line: a megabyte without a space": b"a" * MEGABYTE,
        "long line: ten megabytes of wide characters": "终".encode() * (10 * MEGABYTE // 3),
        "long line: a megabyte of combining marks": "a\u0301".encode() * (MEGABYTE // 3),
        "line ends: a megabyte of carriage returns": b"\r" * MEGABYTE,
        "line ends: all kinds mixed": b"a\r\n\nb\r\r\nc\n\r" * MANY,
        "line ends: Unicode's own": "a\u2028b\u2029c\x85d\x0be\x0cf".encode() * MANY,
        "line ends: ten million": b"\n" * 10_000_000,
        "invisible: zero-width characters": "a\u200bb\u200cc\u200dd\u2060e\ufeff".encode() * MANY,
        "invisible: bidirectional controls": "\u202eevil\u202c \u2066a\u2069".encode() * MANY,
        "invisible: tags and variation selectors": "a\U000e0041\ufe0f".encode() * MANY,
        "invisible: control characters": bytes(range(1, 32)) * 1000 + b" text",
        "invisible: escape sequences": b"\x1b[2J\x1b]0;title\x07text\n" * 1000,
        "invisible: noncharacters": "\ufffe\uffff\U0010ffff text".encode() * 1000,
    }


def hostile_logs() -> dict[str, bytes]:
    """Message logs that are none, or that never end a message."""
    stamp = b"[05.01.24, 10:22:13] "
    return {
        "log: a name without end": (stamp + b"a" * MANY + b"\n") * 3,
        "log: colons": (stamp + b":" * MANY + b"\n") * 3,
        "log: a message of megabytes": stamp + b"A: b\n" + stamp + b"A: " + b"c\n" * 2_000_000,
        "log: spaces after the date": (b"[05.01.24," + b" " * MANY + b"10:22] A: b\n") * 5,
        "log: impossible times": b"[99.99.9999, 99:99:99] A: b\n" * 1000,
        "log: year nought": b"0000-00-00 00:00 A: b\n" * 1000,
        "log: zones that cannot be": b"2024-01-05 10:22+99:99 A: b\n" * 1000,
        "log: digits of other scripts": "[05.01.24, 10:22] A: b\n".translate(_ARABIC).encode()
        * 1000,
        "log: angle brackets": b"<" * MANY + b"\n" + b"<a> b\n" * 10,
        "log: a sender for each message": b"".join(b"<a%d> b\n" % n for n in range(MANY)),
        "log: left-to-right marks": "\u200e".encode() * MANY + b"\n" + (stamp + b"A: b\n") * 3,
    }


def hostile_markdown() -> dict[str, bytes]:
    """Markdown that costs a parser more than it should."""
    ten = 10 * MEGABYTE
    return {
        "marks: ten megabytes of backticks": b"`" * ten,
        "marks: ten megabytes of brackets": b"[" * ten,
        "marks: ten megabytes of asterisks": b"*" * ten,
        "marks: backticks up to the limit": b"`" * (8 * MEGABYTE),
        "marks: runs of backticks of every length": b"a".join(b"`" * n for n in range(1, 2000)),
        "marks: asterisks up to the limit": b"*a" * 499_000,
        "marks: short paragraphs of brackets": (b"[" * 500 + b"\n\n") * 990,
        "marks: images in images": b"![" * MANY,
        "marks: links without end": b"[a](" * MANY,
        "marks: link titles without end": b'[a](b "' * MANY,
        "marks: emphasis that never closes": b"**a _b " * 50_000,
        "marks: angle brackets": b"<a " * MANY,
        "marks: comments without end": b"<!-- " * MANY,
        "marks: backslashes": b"\\" * 499_000,
        "nesting: quotes in Markdown": b">" * MANY + b" a",
        "nesting: lists in Markdown": b"- " * MANY + b"a",
        "nesting: numbered lists in Markdown": b"1. " * MANY + b"a",
        "nesting: lists by indentation": b"".join(b"  " * n + b"- a\n" for n in range(1500)),
        "nesting: quotes and lists by turns": b"> - " * MANY + b"a",
        "lines: a table with many columns": b"|a" * MANY + b"|\n" + b"|-" * MANY + b"|\n|b|\n",
        "lines: a table with many rows": b"|a|b|\n|-|-|\n" + b"|c|d|\n" * 190_000,
        "lines: many short lists": b"- a\n\n" * 90_000,
        "lines: many link definitions": b"".join(b"[a%d]: b\n" % n for n in range(MANY)),
        "lines: front matter without end": b"---\n" + b"a: b\n" * MANY,
        "lines: fences without end": b"```\n~~~\n" * 90_000,
        "entities: references in Markdown": b"&amp;&#0;&#xd800;&#99999999;&bogus;" * 10_000,
    }


def hostile_html() -> dict[str, bytes]:
    """HTML that is deep, unfinished or expensive."""
    entities = b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 20))
    return {
        "nesting: elements": b"<div>" * MANY + b"a",
        "nesting: lists in HTML": b"<ul><li>" * MANY + b"a",
        "nesting: tables": b"<table><tr><td>" * MANY + b"a",
        "nesting: inline elements": b"<b><i>" * MANY + b"a",
        "nesting: elements that close themselves": b"<div/>" * MANY + b"a",
        "nesting: quotes in HTML": b"<blockquote><p>" * MANY + b"a",
        "nesting: up to the limit, with paragraphs": b"<div>" * 1900 + b"<p>a" * 300_000,
        "tags: paragraphs that never close": b"<p>a" * 900_000,
        "tags: formatting carried on": b"<p>"
        + b"".join(b"<b c%d>" % n for n in range(1900))
        + b"</p><p>a" * 20_000,
        "tags: elements that are not nested": b"<a><b></a></b>" * 50_000,
        "tags: an element without end": b"<p " + b"a" * MEGABYTE,
        "tags: attributes": b"<p " + b"".join(b"a%d " % n for n in range(MANY)) + b">a",
        "tags: a megabyte of open brackets": b"<" * MEGABYTE,
        "tags: comments without end in HTML": b"<!--" * MANY + b"a",
        "tags: scripts without end": b"<script>" * MANY + b"a",
        "tags: paragraphs moved out of a table": b"<table>" + b"<p>a" * MANY,
        "tags: templates in templates": b"<template>" * 1900 + b"a",
        "entities: expanding": b"<!DOCTYPE a [<!ENTITY a0 'a'>" + entities + b"]><p>&a19;</p>",
        "entities: from a file": b'<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><p>&a;',
        "entities: that do not end": b"&amp" * MANY,
        "encoding: declared, and not so": b"<meta charset=utf-16><p>text",
        "encoding: declared as one that is none": b"<meta charset=zlib_codec><p>na\xefve",
    }


def hostile_restructured() -> dict[str, bytes]:
    """reStructuredText that would read files, fetch pages or grow without end."""
    secret = b"/etc/passwd"
    chain = b"".join(
        b".. |a%d| replace:: " % n + b"|a%d| " % (n - 1) * 50 + b"\n" for n in range(1, 40)
    )
    return {
        "directive: include": b"a\n\n.. include:: " + secret,
        "directive: literal include": b"a\n\n.. include:: " + secret + b"\n   :literal:",
        "directive: raw file": b"a\n\n.. raw:: html\n   :file: " + secret,
        "directive: raw page": b"a\n\n.. raw:: html\n   :url: http://127.0.0.1/",
        "directive: raw role": b".. role:: x(raw)\n   :format: html\n\n:x:`<script>`",
        "directive: table from a file": b"a\n\n.. csv-table::\n   :file: " + secret,
        "directive: table from a page": b"a\n\n.. csv-table::\n   :url: file://" + secret,
        "directive: image of a device": b"a\n\n.. figure:: /dev/zero\n   :figwidth: image",
        "directive: settings": b".. meta::\n   :a: b\n\n.. default-role:: raw\n\n`a`",
        "directive: include of itself": b".. include:: hostile.rst\n" * 1000,
        "expansion: substitutions": b"|a39|\n\n.. |a0| replace:: a\n" + chain,
        "expansion: substitutions in a circle": b"|a|\n\n.. |a| replace:: |b|\n"
        b".. |b| replace:: |a|",
        "nesting: quotes in reStructuredText": b"".join(b" " * n + b"a\n\n" for n in range(1200)),
        "nesting: lists in reStructuredText": b"- " * 4000 + b"a",
        "nesting: directives": b"".join(b"   " * n + b".. note::\n\n" for n in range(400)),
        "marks: stars in reStructuredText": b"*a **b ``c " * 20_000,
        "marks: a line of a megabyte": b"`" * MEGABYTE,
        "marks: many links": (b"`a <b>`_ " * 100 + b"\n") * 100,
        "lines: titles of every character": b"".join(b"a\n%c\n\n" % n for n in range(33, 127)) * 50,
        "lines: tables that break off": b"+---+---+\n| a |\n" * 3000,
    }


def hostile_emails() -> dict[str, bytes]:
    """E-mails with broken headers and parts in parts."""
    head = b"From: a@example.com\nMIME-Version: 1.0\n"
    part = b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n'
    plain = head + b"Content-Type: text/plain; charset=%s\n\nna\xefve\n"
    return {
        "MIME: parts in parts": head + b"".join(part % (n, n) for n in range(5000)),
        "MIME: parts in parts up to the limit": head
        + b"".join(part % (n, n) for n in range(60))
        + b"a\n" * 400_000,
        "MIME: messages in messages": head + b"Content-Type: message/rfc822\n\n" * 2000,
        "MIME: one boundary for all": head + part % (1, 1) + b"--1\n\na\n" * MANY,
        "MIME: a boundary of a megabyte": head
        + b"Content-Type: multipart/mixed; boundary="
        + b"a" * MEGABYTE
        + b"\n\n--a\n",
        "MIME: without a boundary": head + b"Content-Type: multipart/mixed\n\n--\na",
        "MIME: Base64 that is none": head
        + b"Content-Transfer-Encoding: base64\n\n"
        + b"%" * MEGABYTE,
        "MIME: quoted-printable that is none": head
        + b"Content-Transfer-Encoding: quoted-printable\n\n"
        + b"=ZZ=" * MANY,
        "MIME: uuencode without end": head
        + b"Content-Transfer-Encoding: x-uuencode\n\nbegin 644 ../../a\n"
        + b"M" * MEGABYTE,
        "MIME: HTML that is deep": head + b"Content-Type: text/html\n\n" + b"<div>" * MANY,
        "headers: a million": head + b"X: y\n" * 900_000 + b"\na",
        "headers: one of ten megabytes": head + b"Subject: " + b"a" * (10 * MEGABYTE) + b"\n\na",
        "headers: folded without end": head + b"Subject: a\n" + b" b\n" * MANY + b"\na",
        "headers: comments in comments": b"From: " + b"(" * MANY + b"\n\na",
        "headers: addresses": b"From: " + b"<a@b>," * MANY + b"\n\na",
        "headers: encoded words": b"From: a@b\nSubject: " + b"=?utf-8?q?=FF?= " * MANY + b"\n\na",
        "headers: parameters": head + b"Content-Type: text/plain" + b"; a*0*=''b" * MANY + b"\n\na",
        "headers: a date that cannot be": head + b"Date: 99 Foo 99999 99:99:99 +9999\n\na",
        "headers: NULs": b"From: a\0@b\nSubject: \0\n\na\0b",
        "headers: surrogates": b"From: \xed\xa0\x80 <a@b>\nSubject: \xff\n\na",
        "headers: none": b"\n\n\n",
        "encoding: charset idna": plain % b"idna",
        "encoding: charset of a path": plain % b"../../../etc/passwd",
        "encoding: charset of compressed bytes": plain % b"zlib_codec",
        "encoding: charset without end": plain % (b"a" * MANY),
        "quotes: a hundred thousand deep": head + b"\n" + b">" * MANY + b" a\nb",
        "quotes: introductions without end": head + b"\n" + b"On 2024 a@b " * MANY + b":\n> a",
        "quotes: dashes": head + b"\n" + b"- " * MANY + b"\n" + b"-" * MANY + b"\na",
    }


def hostile_mailboxes() -> dict[str, bytes]:
    """Mailboxes that are none, or whose messages never end."""
    return {
        "mailbox: no mailbox": b"Dear all,\n\nFrom here on.\n",
        "mailbox: only beginnings": b"From a\n\n" * MANY,
        "mailbox: one message of megabytes": b"From a\nFrom: a@b\n\n" + b"a" * (40 * MEGABYTE),
        "mailbox: many messages": b"From a\nFrom: a@b\n\nb\n\n" * 5000,
        "mailbox: broken messages": b"From a\n\xff\0: (((\n\n\0\n\n" * 5000,
        "mailbox: quoted beginnings": b"From a\nFrom: a@b\n\n" + b">" * MANY + b"From a\n",
    }
