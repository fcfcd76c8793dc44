"""Whether the questions to the data are answered rightly, and what they say of real sets.

    python bench/questions.py known --weights FILE [--seeds 10] [--n 240] [--size 96] [--out questions.jsonl]
    python bench/questions.py fresh --weights FILE [--seeds 10] [--n 240] [--size 128] [--out questions.jsonl]
    python bench/questions.py data --weights FILE --set NAME=FOLDER... [--quick] [--out questions.jsonl]
    python bench/questions.py shortcut --weights FILE --set NAME=FOLDER_OR_CSV [--label prob --kind regression] [--shuffles 200] [--out questions.jsonl]
    python bench/questions.py table questions.jsonl

- `known`: drawn images in which the class is carried by position, by texture, by arrangement, by detail of one pixel, by nine marks, or by one mark where eight are covered on purpose; a frozen network looks. A line a question, kind and seed: what was said, and whether it is right
- `fresh`: the same with other images, which were drawn after the thresholds had been fixed and run once: crosses and rings on clouds, checks against speckles, other sizes and seeds. `fine` turned out to have an answer other than the one expected: stripes that end at the rim leave a bright column there when they are halved, which tells the class; `faded` is the same but for a pattern that fades towards the rim, drawn when that was known
- `data`: all four questions to each set (`digits` needs no folder), with seconds; a line a question
- `shortcut`: the set as it is; the same with a border whose brightness agrees with the label in nine images of ten; and with labels shuffled, a line every ten shuffles

One thread a pool, one JSON line a case with commit and versions; started again at the same commit and sources, only what is not there is done.
"""
import argparse, hashlib, json, os, platform, subprocess, sys, tempfile, time
os.environ.update({k: os.environ.get(k, '1') for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS')} | dict(CV_RECIPE_OFFLINE='1'))
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import cv_recipe
from cv_recipe.data import Source
from cv_recipe.features import features
from cv_recipe.labels import thumbnails
from cv_recipe.model import resolve_weights
from cv_recipe.probes import Asked, downsampling, frozen_eye, occlusion, patches, position, questions
from cv_recipe.shortcut import nuisances, shortcut_test
from cv_recipe.task import SingleTask

MODULES = ('shortcut','labels','features','stats')
QUESTIONS = dict(occlusion=occlusion, position=position, patches=patches, downsampling=downsampling)

# --- Images whose answer is known

def stripes(way, period, phase, s): return np.sin((np.indices((s,s))[way]+phase)*2*np.pi/period)

def drawn(kind, seed, n, s):
    "Images of side `s` and their classes, 0 and 1"
    rng,k = np.random.default_rng(seed),s//16
    y,x = rng.integers(0, 2, n),rng.normal(110, 10, (n,s,s))
    for img,c in zip(x, y):
        if kind=='position': a,b = rng.integers(k, s-4*k),rng.integers(k, 5*k)+(6*k if c else 0); img[a:a+3*k,b:b+3*k] += 70
        if kind=='anywhere': a,b = rng.integers(k, s-5*k, 2); img[a:a+4*k,b:b+4*k] += 60*stripes(c, 6, 0, s)[:4*k,:4*k]
        if kind=='texture': img += 25*stripes(c, 8, rng.integers(8), s)
        if kind=='arrangement':
            p,q = 35*stripes(0, 8, rng.integers(8), s),35*stripes(1, 8, rng.integers(8), s)
            img += np.where(np.arange(s)[:,None]<s//2, *((p,q) if c else (q,p)))
        if kind=='fine': img += 30*stripes(c, 2, rng.integers(2)+.5, s)
        if kind=='coarse': half = np.where(np.arange(s)<s//2, -50, 50); img += half[:,None] if c else half[None]
        if kind in ('spread','occluded'):
            places = [(i,j) for i in (k,6*k+k//2,12*k) for j in (k,6*k+k//2,12*k)]
            for i,j in (places if kind=='spread' else [places[rng.integers(9)]]): img[i:i+3*k,j:j+3*k] += 60*stripes(c, 4, 0, s)[:3*k,:3*k]
    return x.clip(0, 255).astype(np.uint8)[...,None].repeat(3, 3),y

# --- Others, drawn when the thresholds were fixed

def clouds(rng, s, amount=22):
    "Soft noise of three sizes, in colour: no rim, no plain background"
    def layer(k): return np.kron(rng.normal(size=(s//k+1,s//k+1)), np.ones((k,k)))[:s,:s]
    g = sum(layer(k) for k in (4,8,16))/3**.5
    return 120+amount*g[...,None]*rng.uniform(.7, 1.3, 3)+rng.normal(0, 6, (s,s,1))

def rim(s): t = np.clip((np.arange(s)+.5)/12, 0, 1); w = np.sin(np.minimum(t, t[::-1])*np.pi/2)**2; return (w[:,None]*w)[...,None]
def ring(k): d = np.hypot(*(np.indices((k,k))-(k-1)/2)); return ((d<k/2) & (d>k/4)).astype(float)
def cross(k): a = np.zeros((k,k)); a[k//3:k-k//3] = 1; a[:,k//3:k-k//3] = 1; return a
def checks(k, p): i,j = np.indices((k,k))//p; return np.where((i+j)%2, 1., -1.)
def speckles(k, p, rng): return np.kron(np.where(rng.random((k//p+1,k//p+1))<.5, 1., -1.), np.ones((p,p)))[:k,:k]

def drawn_fresh(kind, seed, n, s):
    "Colour images of side `s` and their classes, 0 and 1"
    rng = np.random.default_rng([811, seed])
    y,x = rng.integers(0, 2, n),[]
    for c in y:
        img,k = clouds(rng, s),s//5
        if kind=='position': a,b = rng.integers(2, s//3-2)+(s-k-s//3 if c else 0),rng.integers(0, s-k); img[a:a+k,b:b+k] += 80*cross(k)[...,None]
        if kind=='anywhere': k = s//4; a,b = rng.integers(0, s-k, 2); img[a:a+k,b:b+k] += 80*(ring(k) if c else cross(k))[...,None]
        if kind=='texture': img += 24*(checks(s, 5) if c else speckles(s, 5, rng))[...,None]
        if kind=='arrangement':
            p,q = 30*checks(s, 6),30*speckles(s, 6, rng)
            img += np.where(checks(s, s//2)<0, *((p,q) if c else (q,p)))[...,None]   # quarters: no tile of a sixteenth tells which is which
        if kind in ('fine','faded'): img = 120+rng.normal(0, 6, (s,s,3))+26*(checks(s, 1) if c else np.resize([1.,-1.], (s,s)))[...,None]*rng.choice([-1,1])*(rim(s) if kind=='faded' else 1)
        if kind=='coarse': t = np.repeat([1.,-1.,-1.,1.], s//4)[None].repeat(s, 0); img += 45*(t if c else t.T)[...,None]
        if kind in ('spread','occluded'):
            k = s//6; places = [(i,j) for i in range(s//16, s-k, s//4) for j in range(s//16, s-k, s//4)]
            for i,j in (places if kind=='spread' else [places[rng.integers(len(places))]]): img[i:i+k,j:j+k] += 80*(ring(k) if c else cross(k))[...,None]
        x.append(img)
    return np.stack(x).clip(0, 255).astype(np.uint8),y

def right(size):
    return dict(occlusion=dict(spread=['spread out'], occluded=['in one place'], texture=['spread out']), position=dict(position=['matters'], anywhere=['does not matter'], texture=['does not matter']),
        patches=dict(texture=['local'], arrangement=['global'], coarse=['global']), downsampling=dict(fine=[f'{size} pixels'], coarse=[f'{size//8} pixels']))

def known(a, lines):
    drawing,bench = (drawn_fresh, 'fresh') if a.bench=='fresh' else (drawn, 'known')
    cases = right(a.size)
    if bench=='fresh': cases['downsampling']['faded'] = cases['downsampling']['fine']
    eye,levels = frozen_eye(weights(a), 3, a.size, 'cpu', 1),dict(occlusion=(.25,.75), position=(0,1), patches=(1,4), downsampling=(a.size,a.size//2,a.size//4,a.size//8))
    for seed in range(a.seeds):
        for q,kinds in cases.items():
            for kind,want in kinds.items():
                def make():
                    x,y = drawing(kind, seed, a.n, a.size)
                    r = QUESTIONS[q](Asked(x, y, SingleTask(('a','b')), eye, seed=seed), levels[q])
                    return dict(word=r.word, right=r.word in want, curve=curve_of(r))
                lines.get(make, bench=bench, question=q, kind=kind, seed=seed, n=a.n, size=a.size)

# --- Real sets

def weights(a): return resolve_weights(None, a.weights)
def curve_of(r): return r.curve.table[['level','score','kept','kept_lo','kept_hi','whole_trained']].astype(float).round(3).to_numpy().tolist()

def source(a, what):
    "A set by its name or as NAME=PLACE; no test split, since nothing is trained that ships"
    name,_,place = what.partition('=')
    if not place: return name,Source.digits()
    if place.endswith('.csv'): return name,Source.from_csv(place, label_col=a.label, kind=a.kind, test=0.)
    return name,Source.from_folder(place, test=0.)

def data(a, lines):
    for what in a.set:
        name,src = source(a, what)
        for q in QUESTIONS:
            def make():
                began,cpu = time.monotonic(),time.process_time()
                r = questions(src, weights=weights(a), quick=a.quick, ask=[q], seconds=11. if a.quick else None, device='cpu', threads=1)[0]
                return dict(word=r.word, verdict=r.finding.verdict, said=r.finding.implication, do=r.finding.fix, n=r.curve.n, chance=round(r.curve.chance, 3), curve=curve_of(r),
                    seconds=round(time.monotonic()-began, 1), cpu=round(time.process_time()-cpu, 1))
            lines.get(make, bench='data', set=name, images=len(src), question=q, quick=a.quick)

def bordered(src, agree, folder, seed=0):
    "The images with a border whose brightness agrees with the label in a share `agree` of them"
    rng = np.random.default_rng(seed)
    classes = pd.factorize(pd.qcut(src.df.label, 2, duplicates='drop').astype(str) if src.kind=='regression' and src.df.label.nunique()>10 else src.df.label.map(str), sort=True)[0]
    n = classes.max()+1
    for i,(p,c) in enumerate(zip(src.paths, classes)):
        img = np.asarray(Image.open(p).convert('RGB')).copy()
        b,k = max(3, min(img.shape[:2])//30),c if rng.random()<agree else rng.integers(n)
        frame = np.full_like(img, 30+round(200*k/(n-1)))
        frame[b:-b,b:-b] = img[b:-b,b:-b]
        Image.fromarray(frame).save(folder/f'{i}.png')
    return Source.from_df(src.df[[c for c in src.df if c not in ('id','group','split')]].assign(path=[f'{i}.png' for i in range(len(src))]), folder=folder, kind=src.kind, test=0.)

def shortcut(a, lines):
    name,src = source(a, a.set[0])
    views = lambda s: [features(s, weights(a), size=160, resize='squish', device='cpu', threads=1), thumbnails(s, 12, 3)]
    def plain(r): return dict(found=r.found, perhaps=list(r.table.what[r.table.shortcut=='perhaps']), table=r.table.round(3).fillna('').to_dict('records'), visible=r.visible.round(3).to_dict('records'))
    for seed in range(3): lines.get(lambda: plain(shortcut_test(src, views(src), seed=seed)), bench='shortcut', set=name, what='as it is', seed=seed)
    for seed in range(3):
        with tempfile.TemporaryDirectory() as d:
            def make(): s = bordered(src, .9, Path(d), seed); return plain(shortcut_test(s, views(s), seed=seed))
            lines.get(make, bench='shortcut', set=name, what='border agrees with 90%', seed=seed)
    given,seen = nuisances(src),views(src)
    def block(k):
        yes = perhaps = 0
        for i in range(10):
            other = Source(src.df.assign(label=np.random.default_rng([k,i]).permutation(src.df.label)), src.kind, src.classes, src.root)
            r = shortcut_test(other, seen, given=given, seed=k*10+i)
            yes += bool(r.found); perhaps += bool((r.table.shortcut=='perhaps').any())
        return dict(shuffles=10, yes=yes, perhaps=perhaps)
    for k in range(a.shuffles//10): lines.get(lambda: block(k), bench='shortcut', set=name, what='labels shuffled', block=k)

# --- Lines

class Lines:
    "Measurements, kept as JSON lines"
    def __init__(self, out, modules):
        home = Path(cv_recipe.__file__).parent
        git = lambda *o: subprocess.run(['git', *o], capture_output=True, text=True, cwd=home).stdout.strip()
        code = hashlib.blake2b(b''.join((home/f'{m}.py').read_bytes() for m in modules), digest_size=4).hexdigest()
        self.base = dict(commit=git('rev-parse', '--short', 'HEAD'), code=code, python=platform.python_version(), **{m: version(m) for m in ('numpy','torch','timm')})
        lines = map(json.loads, out.read_text().splitlines()) if out.exists() else []
        self.out,self.lines = out,[o for o in lines if o.get('code')==code]
    def get(self, make, **case):
        "The measurement of `case`, made now if it is not there"
        for o in self.lines:
            if all(o.get(k)==v for k,v in case.items()): return o
        self.lines.append(self.base | case | make())
        with open(self.out, 'a') as f: f.write(json.dumps(self.lines[-1], default=float)+'\n')
        print(json.dumps(case | {k: v for k,v in self.lines[-1].items() if k in ('word','right','found','perhaps','yes','n','seconds','cpu')}), flush=True)
        return self.lines[-1]

def table(path):
    t = pd.DataFrame(map(json.loads, Path(path).read_text().splitlines()))
    for bench,part in t.groupby('bench'):
        if bench in ('known','fresh'): print(bench); print(part.groupby(['question','kind']).agg(right=('right','sum'), of=('right','size')).to_string())
        if bench=='data':
            for o in part.itertuples(): print(f"{o.set} {o.question} ({o.n} of {o.images}, {o.seconds} s): {o.said}\n    {o.curve}")
        if bench=='shortcut':
            print(part[part.what!='labels shuffled'][['set','what','seed','found','perhaps']].to_string())
            some = part[part.what=='labels shuffled']
            if len(some): print(some.groupby('set')[['shuffles','yes','perhaps']].sum().to_string())

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('bench', choices=('known','fresh','data','shortcut','table'))
    p.add_argument('file', nargs='?', default='questions.jsonl', help='for `table`')
    p.add_argument('--weights', help='a safetensors file')
    p.add_argument('--set', nargs='+', default=['digits'], help='NAME=FOLDER, NAME=CSV, or digits')
    p.add_argument('--label', default='label', help='column of labels in a csv')
    p.add_argument('--kind', default='auto')
    p.add_argument('--seeds', type=int, default=10)
    p.add_argument('--n', type=int, default=240)
    p.add_argument('--size', type=int, help='default 96; of fresh ones 128')
    p.add_argument('--shuffles', type=int, default=200)
    p.add_argument('--quick', action='store_true')
    p.add_argument('--out', type=Path, default=Path('questions.jsonl'))
    a = p.parse_args()
    if a.bench=='table': return table(a.file)
    if not a.weights: sys.exit('give --weights, a safetensors file with its architecture')
    a.size = a.size or (128 if a.bench=='fresh' else 96)
    {'known': known, 'fresh': known, 'data': data, 'shortcut': shortcut}[a.bench](a, Lines(a.out, MODULES if a.bench=='shortcut' else (*MODULES,'probes')))

if __name__=='__main__': main()
