"""How fast the audit is beside its peers, what it takes at 50,000 files, and what finding pairs of hashes costs.

    python bench/audit.py speed --photos FOLDER... [--peer-python PYTHON] [--rounds 3] [--base 600] [--cam 200] [--data DIR] [--out audit.jsonl]
    python bench/audit.py scale [--sizes 1000,50000] [--labels 20000] [--data DIR] [--out audit.jsonl]
    python bench/audit.py pairs [--out audit.jsonl]
    python bench/audit.py crowd [--sizes 2000,10000] [--kinds equal,frame,black] [--data DIR] [--out audit.jsonl]

Every case is a process of its own with one thread a pool and a fresh cache; it warms up on a few files, so that imports don't count. CPU seconds, those of children included.
`speed` runs all arms in turn in every round; quote ratios within a round. Each measurement is one JSON line in `--out`; started again at the same commit and sources, only what is not there is done.

- `speed`: photographs brought to 500x375 (`base`) and to 1600x1200 with fine noise (`cam`). `audit`: all of `cv-recipe audit --quick`, files and page written; `quality`: scan and quality alone; `cleanvision`: all its issues; `imagededup`: PHash and its pairs
- `scale`: generated files of 32x32 and 64x48, JPEG and PNG, one in a hundred a copy saved again: memory and CPU by part, size of the page; `labels` judges labels as well, by thumbnails
- `pairs`: `hash_pairs` on random hashes, and on such of which many are equal or nearly so
- `crowd`: `scale` at 50,000 with so many files of them pixel-equal, or the same scene with noise, or near black; memory is limited to `--limit` GB
"""
import argparse, hashlib, json, os, platform, shutil, statistics, subprocess, sys, tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

THREADS = dict.fromkeys(('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'), '1')
MODULES = ('images','cache','scan','quality','dups','labels','report','audit')

# --- Workers: what a case runs in its own process, given as `-c`; the arguments are a folder to warm up on, the folder, and a folder to write into

TOOLS = """
import json, os, re, resource, sys
warm,data,out = sys.argv[1:4]
def cpu(): return sum(o.ru_utime+o.ru_stime for o in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
def memory(): return {k: int(v)/1024 for k,v in re.findall(r'(VmRSS|VmHWM):\\s+(\\d+)', open('/proc/self/status').read())}
def timed(f):
    f(warm); t = cpu(); res = f(data)
    print(json.dumps(dict(cpu=round(cpu()-t, 3), peak_mb=round(memory()['VmHWM'])) | (res or {})))
"""
AUDIT = TOOLS+"""
from cv_recipe.audit import *; from cv_recipe.data import Source
def f(d):
    a = audit(Source.from_files(d), quick=True)
    return dict(pairs=len(a.dups), page_mb=round(write_audit(a, out+'/'+os.path.basename(d)).stat().st_size/1e6, 2))
timed(f)
"""
QUALITY = TOOLS+"""
from cv_recipe.data import Source; from cv_recipe.scan import scan; from cv_recipe.quality import quality
timed(lambda d: dict(flags=int(quality(scan(Source.from_files(d))).filter(like='_flag').to_numpy().sum())))
"""
CLEANVISION = TOOLS+"""
from cleanvision import Imagelab
def f(d):
    lab = Imagelab(data_path=d); lab.find_issues(n_jobs=1, verbose=False)
    return dict(flags=int(lab.issues.filter(like='is_').to_numpy().sum()))
timed(f)
"""
IMAGEDEDUP = TOOLS+"""
from imagededup.methods import PHash
def f(d):
    h = PHash(verbose=False); e = h.encode_images(d, recursive=True, num_enc_workers=0)
    return dict(pairs=sum(map(len, h.find_duplicates(encoding_map=e, num_dist_workers=0).values()))//2)
if __name__=='__main__': timed(f)
"""
SCALE = TOOLS+"""
import time
from cv_recipe.audit import *; from cv_recipe.data import Source
import cv_recipe.labels
labels,limit = sys.argv[4]=='labels',float(sys.argv[5])
if limit: resource.setrlimit(resource.RLIMIT_DATA, (int(limit*2**30),)*2)
parts,now = {},None
def part(name):
    global now
    if now: parts[now[0]] = dict(cpu=round(cpu()-now[1], 2), peak_mb=round(memory()['VmHWM']))
    open('/proc/self/clear_refs', 'w').write('5')   # the peak starts anew
    now = name,cpu()
def f(d, say=lambda o: None):
    say('Listing:')
    a = audit((Source.from_folder if labels else Source.from_files)(d), quick=not labels, say=lambda o: say(o))
    say('Writing:')
    return a,write_audit(a, out+'/'+os.path.basename(d))
f(warm)
start,t = memory()['VmRSS'],cpu()
res = dict(start_mb=round(start))
try:
    a,page = f(data, lambda o: part(o.split(':')[0]))
    n,p = len(a.source),a.dups.pairs
    name = a.source.df.path.str.extract(r'([0-9]+)(?:copy)?[.]')[0].to_numpy()
    res |= dict(n=n, pairs=len(p), right=int((name[p.a]==name[p.b]).sum()), clusters=int(a.dups.cluster.max()+1), checked=a.dups.checked, page_mb=round(page.stat().st_size/1e6, 2), seconds=a.seconds)
except MemoryError: res |= dict(failed='out of memory in '+now[0])
part('end')
res |= dict(cpu=round(cpu()-t, 2), parts=parts, peak_mb=max(o['peak_mb'] for o in parts.values()))
print(json.dumps(res | dict(grew_mb=res['peak_mb']-res['start_mb'])))
"""
PAIRS = TOOLS+"""
import numpy as np; from cv_recipe.dups import hash_pairs
n,most,equal,near = (int(float(o)) for o in sys.argv[4].split(','))
resource.setrlimit(resource.RLIMIT_DATA, (int(float(sys.argv[5])*2**30),)*2)
rng = np.random.default_rng(0)
h,p = rng.integers(0, 1<<63, n, dtype=np.uint64),rng.permutation(n)
h[p[:equal]] = h[p[0]]; h[p[equal:equal+near]] = h[p[equal]]
for _ in range(2): h[p[equal:equal+near]] ^= np.uint64(1)<<rng.integers(0, 63, near).astype(np.uint64)
start,t = memory()['VmRSS'],cpu()
try: res = dict(pairs=len(hash_pairs(h, most)))
except MemoryError: res = dict(failed='out of memory')
print(json.dumps(dict(cpu=round(cpu()-t, 2), grew_mb=round(memory()['VmHWM']-start)) | res))
"""

def run(python, code, *args, timeout=None):
    "The last line that a worker prints, as a dict; in case it fails, how"
    with tempfile.TemporaryDirectory() as d:
        env = os.environ | THREADS | dict(CV_RECIPE_CACHE=f'{d}/cache', CV_RECIPE_OFFLINE='1', CUDA_VISIBLE_DEVICES='')
        try: p = subprocess.run([python, '-c', code, *map(str, args[:2]), d, *map(str, args[2:])], capture_output=True, text=True, env=env, timeout=timeout)
        except subprocess.TimeoutExpired: return dict(failed=f'not done within {timeout} s')
    if p.returncode: return dict(failed=p.stderr.strip().splitlines()[-1][:200] if p.stderr.strip() else f'ended by {p.returncode}')
    return json.loads(p.stdout.strip().splitlines()[-1])

# --- Files

def photos(folders):
    "Photographs below `folders`, those of each folder spread evenly"
    return sorted(p for f in folders for p in Path(f).rglob('*') if p.suffix.lower() in ('.jpg','.jpeg','.png') and 'annot' not in p.parent.name)

def made(folder, make):
    "`folder`, filled by `make` unless it is there"
    if not folder.exists():
        part = folder.with_name(folder.name+'.part')
        shutil.rmtree(part, ignore_errors=True); part.mkdir(parents=True)
        make(part); part.rename(folder)
    return folder

def write_photos(folder, paths, n, size, noise, seed=0):
    "`n` of `paths`, mildly cropped to `size`; fine noise makes an enlarged photograph compress like one from a camera"
    rng = np.random.default_rng(seed)
    for i,p in enumerate(paths[k] for k in np.linspace(0, len(paths)-1, min(n, len(paths))).astype(int)):
        im = Image.open(p).convert('RGB')
        s = min(im.width/size[0], im.height/size[1])*rng.uniform(.9, 1)
        w,h = s*size[0],s*size[1]
        l,t = rng.uniform(0, im.width-w),rng.uniform(0, im.height-h)
        im = im.resize(size, Image.Resampling.BICUBIC, box=(l, t, l+w, t+h))
        if noise: im = Image.fromarray((np.asarray(im)+rng.normal(0, noise, (size[1],size[0],1))).clip(0, 255).astype(np.uint8))
        im.save(folder/f'{i:04d}.jpg', quality=90)

def texture(rng, size):
    "Soft patches of colour with noise"
    im = Image.fromarray(rng.integers(0, 256, (6,6,3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return Image.fromarray((np.asarray(im)*.8+20+rng.normal(0, 8, (size[1],size[0],3))).clip(0, 255).astype(np.uint8))

def write_many(folder, n, crowd=0, kind=None, seed=1):
    "`n` files in ten folders, one in a hundred of them a copy of another; `crowd` of them of one kind"
    rng = np.random.default_rng(seed)
    for c in range(10): (folder/f'c{c}').mkdir()
    name = lambda i, end: folder/f'c{i%10}'/f'{i:05d}{end}'
    copies,i,scene = (n-crowd)//100,0,texture(np.random.default_rng(2), (64,48))
    for i in range(n-crowd-copies):
        im = texture(rng, (32,32) if rng.random()<.7 else (64,48))
        if rng.random()<.5: im.save(name(i, '.jpg'), quality=90)
        else: im.save(name(i, '.png'), compress_level=1)
        if i<copies: im.save(name(i, 'copy.jpg'), quality=75)
    for j in range(i+1, i+1+crowd):
        note = PngInfo(); note.add_text('frame', str(j))
        base = dict(equal=lambda: np.asarray(scene), frame=lambda: np.asarray(scene)+rng.normal(0, 3, (48,64,1)), black=lambda: 4+rng.normal(0, 1.5, (48,64,1))+np.zeros(3))[kind]()
        Image.fromarray(base.clip(0, 255).astype(np.uint8)).save(name(j, '.png'), compress_level=1, pnginfo=note)

# --- Cases

def provenance(a):
    "Where the numbers come from"
    git = lambda *o: subprocess.run(['git', *o], capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    import cv_recipe
    home = Path(cv_recipe.__file__).parent
    code = hashlib.blake2b(b''.join((home/f'{m}.py').read_bytes() for m in MODULES), digest_size=4).hexdigest()
    res = dict(commit=git('rev-parse', '--short', 'HEAD'), code=code, python=platform.python_version(), machine=platform.machine(), **{m: version(m) for m in ('numpy','pandas','pillow','cv_recipe')})
    if a.peer_python: res['peers'] = json.loads(subprocess.run([a.peer_python, '-c', "import json; from importlib.metadata import version as v; print(json.dumps({m: v(m) for m in ('cleanvision','imagededup','numpy','pillow')}))"], capture_output=True, text=True, check=True).stdout)
    return res

class Lines:
    "Measurements, kept as JSON lines"
    def __init__(self, a):
        self.base,self.out = provenance(a),a.out
        lines = map(json.loads, a.out.read_text().splitlines()) if a.out.exists() else []
        self.lines = [o for o in lines if all(o.get(k)==v for k,v in self.base.items())]
    def get(self, make, **case):
        "The measurement of `case`, made now if it is not there"
        for o in self.lines:
            if all(o.get(k)==v for k,v in case.items()): return o
        self.lines.append(self.base | case | make())
        with open(self.out, 'a') as f: f.write(json.dumps(self.lines[-1])+'\n')
        print(json.dumps(case | {k: v for k,v in self.lines[-1].items() if k not in self.base}), flush=True)
        return self.lines[-1]

def spread(x): return f'{statistics.median(x):.2f} ({min(x):.2f} to {max(x):.2f})'

def speed(a, lines):
    paths = photos(a.photos)
    if not paths: sys.exit('no photographs: give --photos')
    arms = dict(audit=(sys.executable, AUDIT), quality=(sys.executable, QUALITY))
    if a.peer_python: arms |= dict(cleanvision=(a.peer_python, CLEANVISION), imagededup=(a.peer_python, IMAGEDEDUP))
    warm = made(a.data/'warm', lambda d: write_photos(d, paths, 12, (500,375), 0, seed=3))
    for kind,size,n,noise in (('base',(500,375),a.base,0), ('cam',(1600,1200),a.cam,5)):
        data = made(a.data/f'{kind}-{n}', lambda d: write_photos(d, paths, n, size, noise))
        files = len(list(data.iterdir()))
        for p in data.iterdir(): p.read_bytes()
        by = {}
        for r in range(a.rounds):
            for arm in list(arms)[r%len(arms):]+list(arms)[:r%len(arms)]:
                o = lines.get(lambda: run(arms[arm][0], arms[arm][1], warm, data), bench='speed', kind=kind, n=files, arm=arm, round=r)
                if 'cpu' in o: by.setdefault(arm, {})[r] = o['cpu']/files*1000
        for arm,t in by.items():
            beside = [f"{ours} is {spread([t[r]/by[ours][r] for r in t if r in by[ours]])} times as fast" for ours in ('audit','quality') if arm not in ('audit','quality') and ours in by]
            print(f"{kind} {arm}: {spread(list(t.values()))} ms a file  {'; '.join(beside)}", flush=True)

def scale(a, lines):
    warm = made(a.data/'many-warm', lambda d: write_many(d, 200, seed=3))
    todo = [(int(float(n)), 'files') for n in a.sizes.split(',')]+([(a.labels, 'labels')] if a.labels else [])
    for n,what in todo:
        data = made(a.data/f'many-{n}', lambda d: write_many(d, n))
        o = lines.get(lambda: run(sys.executable, SCALE, warm, data, what, a.limit, timeout=a.timeout), bench='scale', size=n, what=what)
        if 'cpu' in o: print(f"{what} {n:,}: {o['cpu']/n*1000:.3f} ms a file, grew {o['grew_mb']} MB from {o['start_mb']} MB, page {o.get('page_mb')} MB, {o.get('right')} of {n//100} copies found among {o.get('pairs')} pairs", flush=True)

def pairs(a, lines):
    for n,most,equal,near in ((1e5,7,0,0), (1e6,3,0,0), (1e5,7,1e3,0), (1e5,7,0,5e3), (1e6,3,1e4,0), (5e4,7,2e3,0), (5e4,7,0,2e3), (5e4,7,1e4,0), (5e4,7,0,1e4)):
        lines.get(lambda: run(sys.executable, PAIRS, '-', '-', f'{n},{most},{equal},{near}', a.limit, timeout=a.timeout), bench='pairs', hashes=int(n), most=most, equal=int(equal), near=int(near))

def crowd(a, lines):
    warm = made(a.data/'many-warm', lambda d: write_many(d, 200, seed=3))
    for kind in a.kinds.split(','):
        for m in (int(float(o)) for o in a.sizes.split(',')):
            data = made(a.data/f'crowd-{kind}-{m}', lambda d: write_many(d, a.total, m, kind))
            lines.get(lambda: run(sys.executable, SCALE, warm, data, 'files', a.limit, timeout=a.timeout), bench='crowd', kind=kind, crowd=m, total=a.total)

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('bench', choices=('speed','scale','pairs','crowd'))
    p.add_argument('--photos', nargs='+', default=[], help='folders of photographs')
    p.add_argument('--peer-python', help='python of an environment with cleanvision and imagededup; without it, only ours')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--base', type=int, default=600, help='files of 500x375')
    p.add_argument('--cam', type=int, default=200, help='files of 1600x1200')
    p.add_argument('--sizes', default='', help='numbers of files, by commas')
    p.add_argument('--labels', type=int, default=20000, help='files whose labels are judged as well; 0 for none')
    p.add_argument('--kinds', default='equal,frame,black')
    p.add_argument('--total', type=int, default=50000, help='files of a crowd and all others')
    p.add_argument('--limit', type=float, default=8., help='GB that a process may take')
    p.add_argument('--timeout', type=int, default=1800, help='seconds for a case')
    p.add_argument('--data', type=Path, default=Path(tempfile.gettempdir())/'cv_recipe_bench', help='where generated files lie')
    p.add_argument('--out', type=Path, default=Path('audit.jsonl'), help='JSON lines are appended here')
    a = p.parse_args()
    a.sizes = a.sizes or dict(scale='1000,50000', crowd='2000,10000').get(a.bench, '')
    globals()[a.bench](a, Lines(a))

if __name__=='__main__': main()
