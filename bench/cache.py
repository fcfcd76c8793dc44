"""How fast a cache of images is built, against a plain loop that decodes into a memory-mapped array.

    python bench/cache.py FOLDER [--size 128] [--rounds 5] [--n N] [--out cache.jsonl]

Every round runs all arms in turn, so that a busy machine is unfair to all of them alike; quote ratios within a round.
Each measurement is one JSON line in `--out`; started again at the same commit and sources, the bench does only the rounds that are not there.

- `loop1`: one thread, drafts at once the size (38 dB from a full decode), no checks: the least that a loop can do
- `loop2`: the same at twice the size, which are the pixels that the library gives
- `cache1`: `cache_images` in one thread; reads, compares content with the id, decodes, checks, writes, survives a kill
- `cache`: `cache_images` as it is called, in as many threads as there are cores
"""
import argparse, hashlib, json, os, platform, statistics, subprocess, sys, tempfile, time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from PIL import Image

import cv_recipe.cache, cv_recipe.images
from cv_recipe.cache import cache_images

SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.gif', '.tif', '.tiff', '.webp'}

def decode(path, size, over):
    "An image as the plain loop makes it: draft, centre crop, one resize"
    im = Image.open(path)
    w,h = im.size
    s = size*over/min(w,h)
    im.draft('RGB', (max(1, int(w*s)), max(1, int(h*s))))
    im = im.convert('RGB')
    w,h = im.size
    m = min(w,h)
    l,t = (w-m)/2,(h-m)/2
    return np.asarray(im.resize((size,size), Image.Resampling.BILINEAR, box=(l,t,l+m,t+m)))

def loop(source, size, folder, over):
    "Decode all files of `source` into one memory-mapped array"
    arr = np.memmap(folder/'data.bin', np.uint8, 'w+', shape=(len(source.paths),size,size,3))
    for i,p in enumerate(source.paths): arr[i] = decode(p, size, over)

ARMS = {'loop1': lambda s,size,d: loop(s, size, d, 1), 'loop2': lambda s,size,d: loop(s, size, d, 2),
        'cache1': lambda s,size,d: cache_images(s, size, folder=d, workers=0), 'cache': lambda s,size,d: cache_images(s, size, folder=d)}

def table(folder, n):
    "The files below `folder` (or `n` of them, evenly spread), with their ids; reading them all warms the disk's cache for every arm"
    paths = sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in SUFFIXES)
    if not paths: sys.exit(f'no images below {folder}')
    if n: paths = [paths[i] for i in np.unique(np.linspace(0, len(paths)-1, n).astype(int))]
    return SimpleNamespace(paths=paths, df=pd.DataFrame(dict(id=[hashlib.blake2b(p.read_bytes(), digest_size=8).hexdigest() for p in paths])))

def provenance():
    "Where the numbers come from"
    git = lambda *a: subprocess.run(['git', *a], capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    code = hashlib.blake2b(b''.join(Path(m.__file__).read_bytes() for m in (cv_recipe.images, cv_recipe.cache)), digest_size=4).hexdigest()
    return dict(commit=git('rev-parse', '--short', 'HEAD'), code=code, python=platform.python_version(), machine=platform.machine(), cores=len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
                **{m: version(m) for m in ('numpy', 'pillow', 'cv_recipe')})

def measure(arm, source, size):
    with tempfile.TemporaryDirectory() as d:
        start,cpu = time.perf_counter(),time.process_time()
        ARMS[arm](source, size, Path(d))
        return dict(seconds=round(time.perf_counter()-start, 3), cpu=round(time.process_time()-cpu, 3))

def report(lines):
    "Medians over rounds: ms an image, and the rate as a multiple of each plain loop's in the same round"
    by = {(o['round'], o['arm']): o for o in lines}
    rounds = sorted({r for r,_ in by if all((r,a) in by for a in ARMS)})
    med = lambda f: statistics.median(f(r) for r in rounds)
    for a in ARMS:
        ratios = '  '.join(f"{k} vs {b}: {med(lambda r: by[r,b][k]/by[r,a][k]):.2f}x" for b in ('loop1','loop2') for k in ('seconds','cpu'))
        print(f"{a:7s} {med(lambda r: by[r,a]['seconds']/by[r,a]['n']*1000):.3f} ms an image  {ratios}")

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('folder', type=Path, help='images, at any depth')
    p.add_argument('--size', type=int, default=128, help='side of the cached square')
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--n', type=int, help='so many of the files')
    p.add_argument('--out', type=Path, default=Path('cache.jsonl'), help='JSON lines are appended here')
    a = p.parse_args()
    source = table(a.folder, a.n)
    base = provenance() | dict(data=a.folder.name, n=len(source.paths), size=a.size)
    same = lambda o: all(o.get(k)==v for k,v in base.items())
    lines = [o for o in map(json.loads, a.out.read_text().splitlines()) if same(o)] if a.out.exists() else []
    done = {(o['round'], o['arm']) for o in lines}
    for r in range(a.rounds):
        for arm in list(ARMS)[r%len(ARMS):] + list(ARMS)[:r%len(ARMS)]:
            if (r,arm) in done: continue
            lines.append(base | dict(round=r, arm=arm) | measure(arm, source, a.size))
            with open(a.out, 'a') as f: f.write(json.dumps(lines[-1])+'\n')
    report(lines)

if __name__=='__main__': main()
