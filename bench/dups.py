"""How many copies are found, and how many pairs that are none: ours beside imagededup and plain cosine.

    python bench/dups.py copies --photos FOLDER [--drop PATH...] [--weights FILE] [--peer-python PYTHON] [--data DIR] [--cache DIR] [--out dups.jsonl]
    python bench/dups.py cifar10 --folder FOLDER [--weights FILE] [--peer-python PYTHON] ...
    python bench/dups.py digits ...

`copies` makes copies of photographs (saved as JPEG at 30-95, resized by .5-2, cropped to 90-98% of the area, relit by 20%, mirrored; each alone and in pairs): recall counts pairs of a copy and its original, precision all reported pairs, right if of one original. `--drop` names photographs that have a twin among the others.
`cifar10` asks for the pairs of test and training images in `near_duplicates.csv`, among at most three times as many reported. `digits` has no copies: pairs per 1,000 images.
Each measurement is one JSON line in `--out`; started again at the same commit and sources, only what is not there is done.

- `quick`, `features`: ours as `audit` runs it, by files alone, and with the first view of a network; `features_all`: with both views, where there are two
- `phash`: imagededup's PHash at its default distance of 10, and at the best; `cnn`: its network at its default cosine of .9, and at the best (it fetches weights; where it can't, the line says so)
- `cosine`: plain cosine of the features that `features` uses, at the best threshold
The best threshold is that of the highest F1 on these very images, which nobody knows beforehand: it flatters the peers. `at_99` is the highest recall at a precision of .99.
"""
import argparse, hashlib, io, itertools, json, os, platform, resource, subprocess, sys, tempfile
from importlib.metadata import version
from pathlib import Path
os.environ.update(dict.fromkeys(('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'), '1') | dict(CV_RECIPE_OFFLINE='1'))

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageOps

import cv_recipe
from cv_recipe.audit import audit_views
from cv_recipe.data import Source
from cv_recipe.dups import duplicates
from cv_recipe.scan import scan

# --- Copies

def jpeg(im, rng):
    b = io.BytesIO(); im.save(b, 'JPEG', quality=int(rng.integers(30, 96))); b.seek(0)
    return Image.open(b).convert('RGB')

def resize(im, rng):
    s = 2**rng.uniform(-1, 1)
    return im.resize((max(8, round(im.width*s)), max(8, round(im.height*s))), Image.Resampling.BICUBIC)

def crop(im, rng):
    area,aspect = 1-rng.uniform(.02, .10),np.exp(rng.uniform(-.05, .05)) if rng.random()<.7 else 1.
    fw = min(1, np.sqrt(area*aspect)); w,h = round(im.width*fw),round(im.height*min(1, area/fw))
    l,t = rng.integers(0, im.width-w+1),rng.integers(0, im.height-h+1)
    return im.crop((l, t, l+w, t+h))

def bright(im, rng): return ImageEnhance.Brightness(im).enhance(rng.uniform(.8, 1.2))
def flip(im, rng): return ImageOps.mirror(im)

MAKE = dict(jpeg=jpeg, resize=resize, crop=crop, bright=bright, flip=flip)
COMBOS = [*((k,) for k in MAKE), *itertools.combinations(MAKE, 2)]

def make_copies(folder, paths, seed=0):
    "`orig/NNNN.jpg` for each of `paths`, and `copy/NNNN__how.jpg` for each way to change it"
    rng = np.random.default_rng(seed)
    (folder/'orig').mkdir(parents=True); (folder/'copy').mkdir()
    for i,p in enumerate(paths):
        im = Image.open(p).convert('RGB')
        (folder/'orig'/f'{i:04d}.jpg').write_bytes(p.read_bytes()) if p.suffix=='.jpg' else im.save(folder/'orig'/f'{i:04d}.jpg', quality=95)
        for combo in COMBOS:
            x = im
            for t in combo: x = MAKE[t](x, rng)
            x.save(folder/'copy'/f'{i:04d}__{"+".join(combo)}.jpg', quality=92)

def copies_source(a):
    "The source, pairs wanted, and for each row its original"
    folder = a.folder or a.data/f'copies-{Path(a.photos).name}'
    if not folder.exists():
        paths = sorted(p for p in Path(a.photos).rglob('*') if p.suffix.lower() in ('.jpg','.jpeg','.png') and p.relative_to(a.photos).as_posix() not in a.drop)
        part = folder.with_name(folder.name+f'.part{os.getpid()}')
        make_copies(part, paths); part.rename(folder)
    src = Source.from_files(folder)
    names = [p.stem.partition('__') for p in src.paths]
    orig = {k: i for i,(k,_,how) in enumerate(names) if not how}
    want = np.array([sorted((i, orig[k])) for i,(k,_,how) in enumerate(names) if how])
    return src,want,pd.factorize(pd.Series([o[0] for o in names]))[0]

def cifar_source(a):
    src = Source.from_folder(a.folder)
    row = {p: i for i,p in enumerate(src.df.path)}
    t = pd.read_csv(a.folder/'near_duplicates.csv').query("kind=='test-train'")
    return src,np.array([sorted((row[x], row[y])) for x,y in zip(t.path_a, t.path_b)]),None

# --- What is reported, by threshold

def rates(n, same, hit, want):
    "Numbers of pairs as rates"
    return dict(pairs=int(n), recall=round(hit/max(1, want), 4)) | ({} if same is None else dict(precision=round(same/max(1, n), 4)))

def curve(score, bins, want, own, sides, step=500):
    "Counts of pairs by bin of their score, best first: all, of one original, wanted; `score(i, j)` gives the bins of rows `i` against rows `j`. Where there are two sides, only pairs across"
    two,n = sides.any(),len(sides)
    asks,among = (np.flatnonzero(sides),np.flatnonzero(~sides)) if two else (np.arange(n),np.arange(n))
    every,same,hit = np.zeros((3,bins), np.int64)
    for lo in range(0, len(asks), step):
        i = asks[lo:lo+step]
        s = score(i, among)
        ok = np.True_ if two else among>i[:,None]
        every += np.bincount(s[np.broadcast_to(ok, s.shape)], minlength=bins)
        if own is not None: same += np.bincount(s[ok & (own[among]==own[i][:,None])], minlength=bins)
    if len(want): hit = np.bincount(np.array([score(w[:1], w[1:])[0,0] for w in want]), minlength=bins)
    return every.cumsum(),None if own is None else same.cumsum(),hit.cumsum()

def judged(c, want, default, value):
    "Rates at the default bin, at the best, at a precision of .99, or where there is no precision at three times the wanted"
    n,same,hit = c
    at = lambda k: rates(n[k], None if same is None else same[k], hit[k], want)|dict(threshold=value(k))
    res = dict(default=at(default)) if default is not None else {}
    if same is None:
        k = int(np.searchsorted(n, 3*want, 'right'))-1
        return res|dict(at_3x=at(k) if k>=0 else None)
    p,r = same/np.maximum(1, n),hit/want
    good = np.flatnonzero((p>=.99) & (n>0))
    return res|dict(best=at(int(np.argmax(2*p*r/np.maximum(1e-9, p+r)))), at_99=at(int(good[-1])) if len(good) else None)

def ours(src, want, own, sides, dups):
    p = dups.pairs
    p = p[sides[p.a]!=sides[p.b]] if sides.any() else p
    listed = {tuple(o) for o in want.tolist()}
    hit = np.array([o in listed for o in zip(p.a.tolist(), p.b.tolist())], bool)
    res = rates(len(p), None if own is None else (own[p.a]==own[p.b]).sum(), hit.sum(), len(want))|dict(all_pairs=len(dups), checked=dups.checked)
    if own is not None and len(want):
        how = pd.Series([Path(src.df.path[j]).stem.partition('__')[2] or Path(src.df.path[i]).stem.partition('__')[2] for i,j in want])
        got = set(zip(p.a.tolist(), p.b.tolist()))
        by = pd.Series([tuple(o) in got for o in want.tolist()]).groupby(how).mean()
        res['least'] = by.nsmallest(4).round(3).to_dict()
    return res

# --- Peers, in their own python: a list of files in, an array out

PHASH = """
import json, sys, warnings; warnings.simplefilter('ignore')
import numpy as np; from imagededup.methods import PHash
h = PHash(verbose=False)
np.save(sys.argv[2], np.array([int(h.encode_image(p), 16) for p in json.load(open(sys.argv[1]))], np.uint64))
"""
CNN = """
import json, sys, warnings; warnings.simplefilter('ignore')
import numpy as np; from imagededup.methods import CNN
h = CNN(verbose=False)
np.save(sys.argv[2], np.concatenate([h.encode_image(p).reshape(1, -1) for p in json.load(open(sys.argv[1]))]))
"""

def peer(python, code, src):
    "The array, or why there is none"
    with tempfile.TemporaryDirectory() as d:
        Path(d, 'files.json').write_text(json.dumps(list(map(str, src.paths))))
        p = subprocess.run([python, '-c', code, f'{d}/files.json', f'{d}/out.npy'], capture_output=True, text=True)
        return p.stderr.strip().splitlines()[-1][:200] if p.returncode else np.load(f'{d}/out.npy')

def by_hash(h, want, own, sides):
    return judged(curve(lambda i,j: np.bitwise_count(h[i,None]^h[j]), 65, want, own, sides), len(want), 10, lambda k: k)

def by_cosine(x, want, own, sides, default=None, bins=4001):
    x = x/np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    score = lambda i,j: ((1-(x[i]@x[j].T).clip(-1, 1))*2000).astype(np.int64)   # bin 0 is a cosine of 1
    return judged(curve(score, bins, want, own, sides), len(want), default, lambda k: round(1-(k+1)/2000, 4))

# --- Cases

def cpu(): return sum(o.ru_utime+o.ru_stime for o in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))

class Views:
    "Sum of the features of several views, as one"
    def __init__(self, views): self.views,self.ok = views,np.logical_and.reduce([v.ok for v in views])
    def take(self, i): return np.concatenate([_unit(v.take(i)) for v in self.views], 1)

def _unit(x):
    x = x-x.mean(0)
    return x/np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)

def arms(a, src, want, own, sides):
    "Name and function of each arm; each gives a dict"
    kept = {}
    def views():
        if 'views' not in kept:
            from cv_recipe.model import resolve_weights
            kept['views'] = audit_views(src, resolve_weights(None, str(a.weights)), scan(src, a.cache), 'cpu', 1, a.cache)
        return kept['views']
    def quick(): return ours(src, want, own, sides, duplicates(src, scan(src, a.cache)))
    def features(): return ours(src, want, own, sides, duplicates(src, scan(src, a.cache), views()[0]))
    def features_all(): return ours(src, want, own, sides, duplicates(src, scan(src, a.cache), Views(views()))) if len(views())>1 else dict(failed='one view')
    def cosine(): return by_cosine(views()[0].take(slice(None)), want, own, sides)
    def phash():
        h = peer(a.peer_python, PHASH, src)
        return dict(failed=h) if isinstance(h, str) else by_hash(h, want, own, sides)
    def cnn():
        x = peer(a.peer_python, CNN, src)
        return dict(failed=x) if isinstance(x, str) else by_cosine(x, want, own, sides, 199)
    return dict(quick=quick) | (dict(phash=phash, cnn=cnn) if a.peer_python else {}) | (dict(features=features, cosine=cosine, features_all=features_all) if a.weights else {})

def provenance():
    git = lambda *o: subprocess.run(['git', *o], capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    home = Path(cv_recipe.__file__).parent
    code = hashlib.blake2b(b''.join((home/f'{m}.py').read_bytes() for m in ('images','scan','dups','features','audit')), digest_size=4).hexdigest()
    return dict(commit=git('rev-parse', '--short', 'HEAD'), code=code, python=platform.python_version(), machine=platform.machine(), **{m: version(m) for m in ('numpy','pillow','cv_recipe')})

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('bench', choices=('copies','cifar10','digits'))
    p.add_argument('--photos', type=Path, help='photographs to make copies of')
    p.add_argument('--drop', nargs='*', default=[], help='photographs left out, as paths below --photos')
    p.add_argument('--folder', type=Path, help='cifar10 as a folder with near_duplicates.csv; or orig/ and copy/ made before')
    p.add_argument('--weights', type=Path, help='pretrained weights; without them, no arm with a network')
    p.add_argument('--peer-python', help='python of an environment with imagededup')
    p.add_argument('--arms', help='only these, by commas')
    p.add_argument('--data', type=Path, default=Path(tempfile.gettempdir())/'cv_recipe_bench', help='where copies are written')
    p.add_argument('--cache', type=Path, help='where scans and features are kept; default the user\'s cache')
    p.add_argument('--out', type=Path, default=Path('dups.jsonl'), help='JSON lines are appended here')
    a = p.parse_args()
    src,want,own = dict(copies=copies_source, cifar10=cifar_source, digits=lambda a: (Source.digits(), np.zeros((0,2), int), None))[a.bench](a)
    sides = (src.df.split=='test').to_numpy() if a.bench=='cifar10' else np.zeros(len(src), bool)
    case = provenance()|dict(bench=a.bench, n=len(src), wanted=len(want))
    same = lambda o, **kw: all(o.get(k)==v for k,v in (case|kw).items())
    lines = list(map(json.loads, a.out.read_text().splitlines())) if a.out.exists() else []
    for name,make in arms(a, src, want, own, sides).items():
        if (a.arms and name not in a.arms.split(',')) or (a.bench=='digits' and name not in ('quick','features','phash','features_all')): continue
        line = next((o for o in lines if same(o, arm=name)), None)
        if line is None:
            began = cpu()
            line = case|dict(arm=name)|make()
            line['cpu'] = round(cpu()-began, 1)
            with open(a.out, 'a') as f: f.write(json.dumps(line)+'\n')
        print(name, json.dumps({k: v for k,v in line.items() if k not in case}), flush=True)

if __name__=='__main__': main()
