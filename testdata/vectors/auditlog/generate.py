#!/usr/bin/env python3
"""Write the audit log in this directory: an implementation of docs/formats.md that shares no code with Trousseau.

audit.log has five lines, audit.log.state belongs behind them, head-1.json and head-4.json are heads at lines 1 and 4.
cut.log is the log without its last two lines, changed.log has one character changed in line 3.
"""

import hashlib
import hmac
import json
import pathlib

HERE = pathlib.Path(__file__).parent


def head(seq, key, code):
    return '{"format":"tra1","seq":%d,"mac":"%s","key":"%s"}' % (seq, code.hex(), key.hex())


key, code, lines, heads = hashlib.sha256(b"first key").digest(), bytes(32), [], []
for seq, fields in enumerate((
    '"event":"chain-started","removed":0',
    '"event":"started","release":"vector","config":"sha256:00"',
    '"event":"wrap","api":"v2","uid":"a-uid","peer_uid":0,"peer_pid":7,"key_id":"t1.id","code":"OK"',
    '"event":"open","api":"v1beta1","peer_uid":0,"peer_pid":7,"code":"PermissionDenied"',
    '"event":"denied","peer_uid":1000,"peer_pid":8,"callers":3',
), 1):
    heads.append(head(seq, key, code))
    body = '{"seq":%d,"time":"2026-11-24T12:00:0%d.000000000Z",%s' % (seq, seq, fields)
    code = hmac.new(key, code + body.encode(), hashlib.sha256).digest()
    lines.append(body + ',"mac":"%s"}\n' % code.hex())
    assert json.loads(lines[-1])
    key = hashlib.sha256(bytes([len("tra1 key")]) + b"tra1 key" + key).digest()

state = head(len(lines) + 1, key, code)
for name, content in {
    "audit.log": "".join(lines),
    "audit.log.state": state.ljust(511) + "\n",
    "cut.log": "".join(lines[:-2]),
    "cut.log.state": state.ljust(511) + "\n",
    "changed.log": "".join(lines).replace("a-uid", "b-uid"),
    "changed.log.state": state.ljust(511) + "\n",
    "head-1.json": heads[0] + "\n",
    "head-4.json": heads[3] + "\n",
}.items():
    (HERE / name).write_text(content)
