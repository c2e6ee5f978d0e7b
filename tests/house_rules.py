#!/usr/bin/env python3
"""The rules of the house, checked over the sources: house_rules.py ROOT

Arrows between rooms go down only, libraries stay in their rooms, nothing is dead, nothing dangerous is called. Then each rule is shown to
work: a copy of the sources is changed in a way that the rule forbids, and the rule must say so."""
import os, re, shutil, sys, tempfile
from fnmatch import fnmatch

PRODUCT = ('codec', 'engine', 'ingest', 'tools')
ROOMS = PRODUCT + ('bench', 'tests')

# Who may include what of the project.
BELOW = {'codec': {'codec'}, 'engine': {'engine', 'codec'}, 'ingest': {'ingest', 'codec'}, 'tools': set(PRODUCT),
         'bench': set(PRODUCT) | {'bench'}, 'tests': set(PRODUCT) | {'tests'}}

# Headers of libraries, and of what only some may do; who may include them. The first pattern that fits a header decides.
HOMES = [
    ('tss2/*', ['tools/collect/tpm_*']),
    ('sqlite3.h', ['tools/store/*', 'tools/json_read.c']),
    ('liburing*', ['ingest/ring_reader.c']),
    ('xxh*.h', ['engine/table_format.h', 'tools/store/store_sets.c']),
    ('cbor.h', ['tools/corim_read.c', 'tests/test_corim.c']),
    ('msgpack*', ['codec/emit.c', 'tools/gen/gen_machine.h', 'tools/result_read.c']),
    ('openssl/*', ['engine/kernel/openssl_*', 'engine/kernel/oracle.c', 'engine/kernel/key.c', 'tools/ak_read.c', 'tools/ceremony/answer.c', 'tools/ceremony/cert_chain.c', 'tools/ceremony/credential.c', 'tools/ceremony/ek_public.c',
                   'tools/gen/*']),
    ('*intrin.h', ['engine/kernel/*']),
    ('cpuid.h', ['engine/kernel/cpu.c']),
    ('pthread.h', ['engine/*', 'ingest/*', 'tools/*']),
    ('dirent.h', ['ingest/*', 'tools/*']),
    ('fcntl.h', ['engine/table_*', 'ingest/*', 'tools/*']),
    ('unistd.h', ['engine/*', 'ingest/*', 'tools/*']),
    ('stdlib.h', ['engine/*', 'ingest/*', 'tools/*']),  # no allocation on the ground floor
]

BANNED = ['strcpy', 'strcat', 'strncpy', 'strncat', 'sprintf', 'vsprintf', 'gets', 'scanf', 'sscanf', 'fscanf', 'alloca', 'system', 'popen',
          'strtok', 'atoi', 'atol', 'atoll', 'atof', 'rand', 'srand', 'random', 'tmpnam', 'tempnam', 'mktemp', 'setjmp', 'longjmp',
          'gmtime', 'localtime', 'ctime', 'asctime', 'strerror']

# Code that is included with other numbers each time: no guard.
TEMPLATES = ['engine/kernel/ec_ifma512.h', 'engine/kernel/rsa_ifma512.h', 'tests/ec_fields.h']

COLUMNS = 150  # 128 is meant; this is what nobody writes on purpose
MACHINE_PATHS = re.compile(r'(?<![\w.}$*])/(work|root|home/\w+|Users|mnt)/')
NUMBERED = re.compile(r'\bissue #?\d')  # the reader has no such list
UNFINISHED = re.compile(r'\b(TODO|FIXME|XXX|HACK)\b')


class Tree:
    """Every text file of the rooms, and of the root: name from the root -> text."""
    def __init__(self, root):
        self.text = {}
        for top in ('',) + ROOMS + ('docs',):
            for folder, folders, names in os.walk(os.path.join(root, top)):
                folders[:] = [f for f in folders if top and f not in ('corpus', 'golden', '__pycache__')]
                for n in names:
                    path = os.path.relpath(os.path.join(folder, n), root)
                    if n.endswith('.pyc') or (n.startswith('.') and n != '.gitignore'):
                        continue
                    with open(os.path.join(root, path), encoding='utf-8', errors='surrogateescape') as f:
                        self.text[path] = f.read()

    def c_files(self, rooms=ROOMS):
        return [p for p in sorted(self.text) if p.endswith(('.c', '.h')) and p.split('/')[0] in rooms]


def bare(text):
    """C without comments, strings and characters; lines stay where they are."""
    keep = lambda m: '\n' * m.group().count('\n') if m.group().startswith('/') else '""'
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', keep, text, flags=re.S)


def includes(text):
    for number, line in enumerate(text.splitlines(), 1):
        m = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if m:
            yield number, m.group(1) == '"', m.group(2)


# ---- the rules: each yields what breaks it ----

def arrows(tree):
    for path in tree.c_files():
        room = path.split('/')[0]
        for number, ours, name in includes(tree.text[path]):
            if not ours:
                continue
            if name not in tree.text:
                yield f'{path}:{number}: "{name}" is not named from the root of the tree'
            elif name.split('/')[0] not in BELOW[room]:
                yield f'{path}:{number}: {room} may not see "{name}"'


def meeting(tree):
    """Readers and verdicts meet in the pipeline, which frames what was read."""
    for path in tree.c_files(('tools',)):
        seen = {name.split('/')[0] for _, ours, name in includes(tree.text[path]) if ours}
        if {'engine', 'ingest'} <= seen and path.split('/')[1].split('.')[0] not in ('pipeline', 'framing'):
            yield f'{path}: engine and ingest meet in the pipeline only'


def inside(tree):
    """What the files of one folder share stays there."""
    for path in tree.c_files():
        for number, ours, name in includes(tree.text[path]):
            if ours and name.endswith('_inside.h') and os.path.dirname(name) != os.path.dirname(path):
                yield f'{path}:{number}: "{name}" is for {os.path.dirname(name)}/ only'


def libraries(tree):
    for path in tree.c_files(PRODUCT):
        for number, ours, name in includes(tree.text[path]):
            if ours:
                continue
            for pattern, homes in HOMES:
                if fnmatch(name, pattern):
                    if not any(fnmatch(path, h) for h in homes):
                        yield f'{path}:{number}: <{name}> belongs to {", ".join(homes)}'
                    break


def names(tree):
    seen = {}
    for path in sorted(tree.text):
        name = path.split('/')[-1]
        if name == 'meson.build':
            continue
        if name in seen:
            yield f'{path}: the name is {seen[name]}\'s'
        seen[name] = path


def guards(tree):
    for path in tree.c_files():
        if not path.endswith('.h') or path in TEMPLATES:
            continue
        guard = 'QM_(BENCH_|TEST_)?' + re.sub(r'\W', '_', path.split('/')[-1]).upper()
        if not re.search(rf'^#ifndef ({guard})\n#define \1\n', tree.text[path], re.M) or not tree.text[path].endswith('#endif\n'):
            yield f'{path}: no guard {guard}'


def calls(tree):
    banned = re.compile(r'(?<![\w.>])(' + '|'.join(BANNED) + r')\s*\(')
    for path in tree.c_files(PRODUCT):
        for number, line in enumerate(bare(tree.text[path]).splitlines(), 1):
            m = banned.search(line)
            if m:
                yield f'{path}:{number}: {m.group(1)} is banned'


def dead(tree):
    """Sources that no meson.build lists, headers that nothing includes, scripts that nothing names."""
    built = {os.path.normpath(os.path.join(os.path.dirname(p), n)) for p, t in tree.text.items() if p.endswith('meson.build')
             for n in re.findall(r"'([\w./]+)'", t)}
    included = {name for p in tree.c_files() for _, ours, name in includes(tree.text[p]) if ours}
    for path in sorted(tree.text):
        if path.split('/')[0] not in ROOMS:
            continue
        if path.endswith('.c') and path not in built:
            yield f'{path}: no meson.build lists it'
        if path.endswith('.h') and path not in included:
            yield f'{path}: nothing includes it'
        if path.endswith(('.py', '.sh')):
            name = path.split('/')[-1]
            if not any(name in t for p, t in tree.text.items() if p not in (path, 'tests/house_rules.py')):
                yield f'{path}: nothing names it'


def prefix(tree):
    """What a header of the product declares is qm_, but for what the files of one module share (store_inside.h)."""
    for path in tree.c_files(PRODUCT):
        if not path.endswith('.h') or path.endswith('_inside.h'):
            continue
        for number, line in enumerate(bare(tree.text[path]).splitlines(), 1):
            m = re.match(r'(?!static|typedef|#|return|else|if)[a-z][\w ]*[\w ][ *]+(\w+)\(', line)
            if m and not m.group(1).startswith('qm_'):
                yield f'{path}:{number}: {m.group(1)} has no qm_ in front'


def text(tree):
    for path in sorted(tree.text):
        t = tree.text[path]
        if not t.endswith('\n') and t and '.' in path:
            yield f'{path}: the last line has no end'
        for number, line in enumerate(t.split('\n'), 1):
            at = f'{path}:{number}'
            if '\t' in line and not path.startswith('tests/cli/'):
                yield f'{at}: a tab'
            if '\r' in line or (line != line.rstrip() and not path.endswith('.case')):
                yield f'{at}: white space at the end'
            if len(line) > COLUMNS and path.endswith(('.c', '.h')):
                yield f'{at}: {len(line)} columns'


def words(tree):
    for path in sorted(tree.text):
        if path == 'tests/house_rules.py':
            continue
        for number, line in enumerate(tree.text[path].split('\n'), 1):
            for what, pattern in (('a path of one machine', MACHINE_PATHS), ('unfinished', UNFINISHED), ('a list elsewhere', NUMBERED)):
                if pattern.search(line):
                    yield f'{path}:{number}: {what}: {pattern.search(line).group()}'


RULES = [arrows, meeting, inside, libraries, names, guards, calls, dead, prefix, text, words]

# ---- each rule can fail: what to put where, for the rule to see it ----

def add(path, more):
    def change(root):
        with open(os.path.join(root, path), 'a') as f:
            f.write(more)
    return change


def put(path, content):
    def change(root):
        with open(os.path.join(root, path), 'w') as f:
            f.write(content)
    return change


def rename(path, to):
    return lambda root: os.rename(os.path.join(root, path), os.path.join(root, to))


DOCTORED = [
    (inside, add('tools/cmd_run.c', '#include "tools/store/store_inside.h"\n')),
    (arrows, add('engine/pool.c', '#include "ingest/ingest.h"\n')),
    (arrows, add('ingest/reader.c', '#include "engine/verify.h"\n')),
    (arrows, add('codec/text.c', '#include "engine/verify.h"\n')),
    (arrows, add('engine/replay.c', '#include "tools/options.h"\n')),
    (arrows, add('tools/options.c', '#include "tests/craft.h"\n')),
    (arrows, add('tools/options.c', '#include "options.h"\n')),
    (meeting, add('tools/options.c', '#include "engine/verify.h"\n#include "ingest/ingest.h"\n')),
    (libraries, add('tools/cmd_verify.c', '#include <sqlite3.h>\n')),
    (libraries, add('ingest/reader.c', '#include <liburing.h>\n')),
    (libraries, add('tools/options.c', '#include <tss2/tss2_esys.h>\n')),
    (libraries, add('engine/appraise.c', '#include <xxhash.h>\n')),
    (libraries, add('engine/appraise.c', '#include <openssl/evp.h>\n')),
    (libraries, add('engine/replay.c', '#  include <immintrin.h>\n')),
    (libraries, add('codec/text.c', '#include <stdlib.h>\n')),
    (names, add('tests/tpm2.c', '/* the ground floor has one */\n')),
    (guards, put('codec/cursor.h', 'struct qm_cur { int p; };\n')),
    (calls, add('tools/options.c', 'static void f(char *a) { strcpy(a, ""); }\n')),
    (calls, add('codec/text.c', 'static void f(char *a) { sprintf (a, "x"); }\n')),
    (calls, add('engine/pool.c', 'static int f(void) { return system("ls"); }\n')),
    (dead, put('engine/unused.c', 'int qm_unused;\n')),
    (dead, put('engine/unused.h', '#ifndef QM_UNUSED_H\n#define QM_UNUSED_H\n#endif\n')),
    (dead, put('tests/unused_test.py', '# nothing runs it\n')),
    (dead, rename('engine/composite.c', 'engine/composites.c')),
    (prefix, put('codec/cursor.h', '#ifndef QM_CURSOR_H\n#define QM_CURSOR_H\nint read_it(int a);\n#endif\n')),
    (text, add('engine/pool.c', '\tint tab;\n')),
    (text, add('README.md', 'white space \n')),
    (text, add('docs/design.md', 'no end')),
    (words, add('README.md', 'see /' + 'work/main\n')),
    (words, add('docs/design.md', 'as in issue ' + '2\n')),
    (words, add('engine/pool.c', '/* TO' + 'DO: later */\n')),
]


def copy(root, to):
    for path in Tree(root).text:
        os.makedirs(os.path.dirname(os.path.join(to, path)), exist_ok=True)
        shutil.copy(os.path.join(root, path), os.path.join(to, path))


def main():
    root = sys.argv[1]
    tree = Tree(root)
    problems = [f'{rule.__name__}: {p}' for rule in RULES for p in rule(tree)]
    for p in problems:
        print(p)
    if len(tree.c_files(PRODUCT)) < 50:
        print(f'only {len(tree.c_files(PRODUCT))} files of C: is {root} the root?')
        return 1
    if problems:
        return 1
    blind = 0
    for i, (rule, change) in enumerate(DOCTORED):
        with tempfile.TemporaryDirectory(prefix='house-') as place:
            copy(root, place)
            change(place)
            seen = any(rule(Tree(place)))
        if not seen:
            print(f'rule {rule.__name__} does not see change {i + 1}')
            blind += 1
    for rule in RULES:
        if not any(r is rule for r, _ in DOCTORED):
            print(f'rule {rule.__name__} was not shown to fail')
            blind += 1
    print(f'{len(RULES)} rules over {len(tree.text)} files; {len(DOCTORED) - blind} of {len(DOCTORED)} forbidden changes seen')
    return blind != 0


sys.exit(main())
