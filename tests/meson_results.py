#!/usr/bin/env python3
"""The results of a build's last `meson test`, a line each: ok, skip or fail, the name, and for the latter two what was printed.

    meson_results.py BUILD_DIR"""
import json, os, sys

GOOD = {'OK', 'EXPECTEDFAIL'}
path = os.path.join(sys.argv[1], 'meson-logs', 'testlog.json')
if not os.path.exists(path):
    print('fail\tmeson test\tno test was run')
    sys.exit()
for line in open(path):
    t = json.loads(line)
    said = (t.get('stdout') or '') + (t.get('stderr') or '')
    seconds = f'{t.get("duration", 0):.1f} s'
    if t['result'] in GOOD:
        print('ok', f'{t["name"]} ({seconds})', '', sep='\t')
    elif t['result'] == 'SKIP':
        print('skip', t['name'], (said.strip().splitlines() or [''])[-1].replace('\t', ' '), sep='\t')
    else:
        lines = said.splitlines()
        # what a test calls failed may stand long before its end
        shown = [l for l in lines[:-40] if l.lower().lstrip().startswith('fail')][:20] + lines[-40:]
        tail = '\\n'.join('     ' + l.replace('\\', '\\\\').replace('\t', ' ') for l in shown)
        print('fail', f'{t["name"]} ({t["result"]}, {seconds})', tail, sep='\t')
