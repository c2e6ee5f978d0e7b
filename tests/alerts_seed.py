"""Alerts of every sort in a home whose instances are enrolled with baselines: alerts_seed.py HOME

1 to 5: a change of PCRs 4, 8 and 9 on five machines; 6: on a sixth, which passes again; 7: a machine fell silent; 8: one was put
back to a snapshot; 9: records that another key signed."""
import hashlib, json, sqlite3, sys

FIRST, LAST, CLOSED = 1764225690000, 1764229290000, 1764230000000
db = sqlite3.connect(sys.argv[1] + '/fleet.db')


def change(kind, items=b'', event=None):
    key = hashlib.sha256(bytes([kind, 0, 0]) + items).digest()
    name = hashlib.sha256(items).hexdigest()[:16] if items else ''
    return db.execute('INSERT INTO change(kind, grp, class, key, name, items, event, first_ms) VALUES(?, 0, 0, ?, ?, ?, ?, ?)',
                      (kind, key, name, items, event, FIRST)).lastrowid


def alert(kind, slot, no, count=1, state=0, closed=None, detail=None):
    db.execute('INSERT INTO alert(kind, slot, change, state, seen, first_ms, last_ms, count, closed_ms, restarts, detail)'
               ' VALUES(?, ?, ?, ?, 0, ?, ?, ?, ?, 1, ?)', (kind, slot, no, state, FIRST, LAST, count, closed, detail))


slots = [row[0] for row in db.execute('SELECT slot FROM instance ORDER BY slot')]
mask, values = db.execute('SELECT v.mask, v.value FROM baseline b JOIN pcr_values v ON v.no = b.vals WHERE b.slot = ?', slots[:1]).fetchone()
at = {pcr: i for i, pcr in enumerate(p for p in range(24) if mask >> p & 1)}
items = b''.join(bytes([p]) + values[32 * at[p]:][:32] + hashlib.sha256(bytes([p])).digest() for p in (4, 8, 9))
event = {'index': 23, 'pcr': 4, 'type': 0x80000003, 'digest': '11' * 32, 'expected_digest': '22' * 32,
         'text': '\\EFI\\debian\\grubx64.efi \x1b[2J', 'proved': False}
wave = change(0, items, json.dumps(event))
for s in slots[:5]:
    alert(0, s, wave, count=2)
alert(0, slots[5], wave, state=3, closed=CLOSED)
alert(10, slots[6], change(10), detail='{"cause":"nothing_from_it","since":%d}' % FIRST)
alert(5, slots[7], change(5), detail='{"seen":{"reset":7,"restart":0,"clock":7000},"refused":{"reset":4,"restart":2,"clock":4321}}')
bad = change(19)
alert(19, None, bad, count=45)
db.execute('INSERT INTO refused VALUES(?, 3, ?, zeroblob(256), ?)', (bad, 'east \x1b, owner 1001', json.dumps(['a\x1bb', 'x'])))
db.commit()
