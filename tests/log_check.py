#!/usr/bin/env python3
"""The log command against golden files: log_check.py QUOTEMILL SEEDS GOLDEN [--update]"""
import json, os, subprocess, sys, tempfile

quotemill, seeds, golden = (os.path.abspath(x) for x in sys.argv[1:4])
update = '--update' in sys.argv
failed = []


def run(*args, stdin=None):
    p = subprocess.run([quotemill, 'log', *args], input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                       capture_output=True, cwd=seeds)
    return p.returncode, p.stdout.decode('ascii'), p.stderr.decode('ascii')


def check(what, good):
    if not good: failed.append(what)


def compare(name, text):
    path = os.path.join(golden, name)
    if update:
        with open(path, 'w') as f: f.write(text)
    with open(path) as f: check(f'{name} differs; see --update', f.read() == text)


for name, status, code in [('every-type', 'ok', 0), ('legacy', 'unreplayable', 0), ('junk', 'malformed', 1), ('sm3', 'ok', 0),
                           ('no-digests', 'unreplayable', 0), ('zero-algorithms', 'malformed', 1), ('locality-hcrtm', 'ok', 0),
                           ('padding-ff', 'ok', 0), ('no-events', 'ok', 0), ('drtm', 'ok', 0)]:
    rc, out, err = run('--json', name)
    check(f'{name}: exit {rc}', rc == code)
    check(f'{name}: one line', out.count('\n') == 1)
    o = json.loads(out)
    check(f'{name}: status {o["status"]}', o['status'] == status)
    check(f'{name}: a complaint when malformed, and only then', (err != '') == (status == 'malformed') == ('malformed_at' in o))
    rc, text, _ = run(name)
    check(f'{name}: exit {rc} as text', rc == code)
    if name in ('every-type', 'junk', 'no-digests', 'sm3', 'zero-algorithms'):
        compare(f'log-{name}.json', out.replace('{"index"', '\n{"index"'))  # an event a line, to read a difference by
        compare(f'log-{name}.txt', text)

with open(os.path.join(seeds, 'short'), 'rb') as f: short = f.read()
check('stdin', run('-', '--json', stdin=short) == run('short', '--json'))
check('stdin is empty', run('-', stdin=b'')[0] == 1)
check('no operand', run()[0] == 2)
check('two operands', run('short', 'short')[0] == 2)
check('an unknown option', run('--jsonn', 'short')[0] == 2)
check('no such file', run('no\x1bsuch')[0] == 3 and '\x1b' not in run('no\x1bsuch')[2])
check('a folder', run('.')[0] == 3)
with tempfile.NamedTemporaryFile() as f:
    for size, code in ((4 << 20) - 1, 0), (4 << 20, 0), ((4 << 20) + 1, 3):
        f.seek(0)
        f.truncate(0)
        f.write(short)
        f.truncate(size)  # padded with zeros
        f.flush()
        check(f'{size} bytes', run(f.name)[0] == code)
if os.path.exists('/dev/full'):
    with open('/dev/full', 'wb') as full:
        check('a full disk', subprocess.run([quotemill, 'log', os.path.join(seeds, 'short')], stdout=full,
                                            stderr=subprocess.DEVNULL).returncode == 3)

for f in failed: print(f)
sys.exit(1 if failed else 0)
