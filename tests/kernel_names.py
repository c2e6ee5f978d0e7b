#!/usr/bin/env python3
"""The names of the kernels that run here, from `quotemill cpu --json` on standard input, each once."""
import json, sys

names = []
for line in sys.stdin:
    for k in json.loads(line).get('kernels', []):
        if k['runs'] and k['name'] not in names:
            names.append(k['name'])
print(*names, sep='\n')
