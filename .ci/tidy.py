"What no tool checks for us: notebooks of a readable size, saved outputs that are the same tomorrow, and nothing that reads outside the project"
import json, re, subprocess, sys
from pathlib import Path

VOLATILE = {'an absolute path': r'(?<![\w.:/])/(tmp|home|root|Users|work|var)/', 'an address': r'\bat 0x[0-9a-f]{6,}|0x[0-9a-f]{9,}',
            'a clock time': r'\b\d\d:\d\d:\d\d\b', 'a live widget': r'widget-view\+json', 'a traceback': r'Traceback \(most recent'}
bad = []

def text(o):
    d = o.get('data', {})
    return ''.join(''.join(v) if isinstance(v, (str,list)) else json.dumps(v) for k,v in d.items() if not k.startswith('image/')) + ''.join(o.get('text', '')) + ' '.join(d)

for f in sorted(Path('nbs').rglob('*.ipynb')):
    if f.stat().st_size>300_000: bad.append(f'{f}: {f.stat().st_size//1000} kB, at most 300')
    cells = json.loads(f.read_text(encoding='utf-8'))['cells']
    for c in cells:
        out = re.sub(r'data:image/[^"]*', '', '\n'.join(text(o) for o in c.get('outputs', [])))
        bad += [f'{f} cell {c["id"]}: saved output holds {k}: {m[0]!r}' for k,p in VOLATILE.items() if (m := re.search(p, out))]
        if any(o.get('output_type')=='error' for o in c.get('outputs', [])): bad.append(f'{f} cell {c["id"]}: a saved error')

tracked = [Path(p) for p in subprocess.run(['git', 'ls-files'], capture_output=True, text=True, check=True).stdout.splitlines()]
for f in tracked:
    if f.suffix in ('.png','.ico') or f==Path('.ci/tidy.py'): continue
    if re.search(r'\.\./shared|/work/', f.read_text(encoding='utf-8')): bad.append(f'{f}: names a folder outside the project')
print('\n'.join(bad) or f'{len(tracked)} files tidy'); sys.exit(bool(bad))
