"""How well characters that were never trained on are found again: ArcFace and GeM, together and apart, against softmax.

    python bench/retrieval.py run [--seeds 5] [--steps 400] [--size 64] [--arch test_byobnet] [--data DIR] [--out retrieval.jsonl]
    python bench/retrieval.py table [--out retrieval.jsonl]

Characters of the fonts that come with matplotlib, drawn by Pillow: Latin, Greek and Cyrillic letters and digits that every font of four families has (DejaVu Sans, Sans Mono and Serif, and STIX), less those that look like another one. A class is a character; its images are that character in the 16 fonts, at several sizes, turned and shifted a little, with noise.
A seed deals the characters into such to train on and such that are new, draws the images, and begins the networks; the arms of a seed share all of that. Each trains through `fit`, from random weights, for the same number of steps and at the same rate. Nothing was tuned on the new characters.
Then the new characters are looked up by the cosine between rows of `embed`: each image asks all images of fonts *of other families*, and is right if the nearest is the same character (`recall`). `near` asks all images of other fonts, `valid` does the same as `recall` with trained characters, on drawings that were held out.

Every case is one JSON line in `--out`, with commit and versions; started again at the same commit and sources, only what is not there is done. `table` gives each arm's mean over seeds, and its gain over softmax paired over seeds, with 95% intervals.
"""
import argparse, hashlib, json, os, platform, subprocess, sys, tempfile, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ.setdefault(k, '1')
from importlib.metadata import version
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFont

import cv_recipe
from cv_recipe.core import derive_seed
from cv_recipe.data import Source
from cv_recipe.heads import embed
from cv_recipe.images import open_image
from cv_recipe.model import as_input
from cv_recipe.pipe import Config, fit, run_model
from cv_recipe.stats import mean_interval, paired_interval
from cv_recipe.task import task_for

ARMS = dict(softmax={}, gem=dict(pool='gem'), arcface=dict(head='arcface'), both=dict(pool='gem', head='arcface'))
MODULES = ('heads','pipe','model','loader','parts','task')
FONTS = {f: [f+s for s in styles] for f,styles in (('DejaVuSans',('','-Bold','-Oblique','-BoldOblique')), ('DejaVuSansMono',('','-Bold','-Oblique','-BoldOblique')),
    ('DejaVuSerif',('','-Bold','-Italic','-BoldItalic')), ('STIXGeneral',('','Bol','Italic','BolIta')))}
FAMILY = {s: i for i,ss in enumerate(FONTS.values()) for s in ss}

# --- Characters

def font(name, size): return ImageFont.truetype(Path(matplotlib.get_data_path())/'fonts'/'ttf'/f'{name}.ttf', size)

def shape(c, name):
    "A character cut out and brought to one size, to be compared"
    im = Image.new('L', (120,120))
    ImageDraw.Draw(im).text((60,60), c, 255, font(name, 64), anchor='mm')
    a = np.asarray(im.crop(im.getbbox()).resize((24,24), Image.Resampling.BILINEAR), np.float32).ravel()
    w,h = np.subtract(im.getbbox()[2:], im.getbbox()[:2])
    return np.r_[a-a.mean(), 300*np.log(w/h)]

def characters(like_at=.95):
    "Characters that all fonts have, none of which looks like one before it in some family"
    known = set.intersection(*({chr(k) for k in charmap(n)} for n in FAMILY))
    some = sorted(c for c in known if (c.isalpha() or c.isdigit()) and ord(c)<0x530 and not 0x2b0<=ord(c)<0x370)
    kept,seen = [],{f: [] for f in FONTS}
    for c in some:
        like = {f: shape(c, f) for f in FONTS}
        r = [max((float(v@w/np.linalg.norm(v)/np.linalg.norm(w)) for w in seen[f]), default=0) for f,v in like.items()]
        if max(r)>like_at: continue
        kept.append(c)
        for f,v in like.items(): seen[f].append(v)
    return kept

def charmap(name):
    from matplotlib.ft2font import FT2Font
    return FT2Font(str(Path(matplotlib.get_data_path())/'fonts'/'ttf'/f'{name}.ttf')).get_charmap()

def drawn(c, name, rng, size):
    "A character on noise, at a size, a turn and a place by chance"
    big = Image.new('L', (size*2,size*2))
    ImageDraw.Draw(big).text((size,size), c, 255, font(name, int(size*rng.uniform(.8, 1.25))), anchor='mm')
    l,t,r,b = big.getbbox()
    big = big.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR, center=((l+r)/2,(t+b)/2), translate=tuple(size-np.array([(l+r)/2,(t+b)/2])+rng.uniform(-.08, .08, 2)*size))
    a = np.asarray(big.resize((size,size), Image.Resampling.BILINEAR, box=(size*.25, size*.25, size*1.75, size*1.75)), float)
    return Image.fromarray((40+a/255*rng.uniform(120, 190)+rng.normal(0, 8, a.shape)).clip(0, 255).astype(np.uint8))

def drawings(folder, chars, rng, n, size):
    "Some characters in every font, `n` times to train on and once for validation"
    rows = []
    for k,c in enumerate(chars):
        for f in FAMILY:
            for i in range(n+1):
                p = folder/f'{k:03d}'/f'{f}_{i}.png'
                p.parent.mkdir(parents=True, exist_ok=True)
                drawn(c, f, rng, size).save(p, compress_level=1)
                rows.append(dict(path=str(p), label=f'U+{ord(c):04X}', split='valid' if i==n else 'train', font=f))
    return pd.DataFrame(rows)

# --- Cases

def found(net, w, t, size):
    "Recall at 1 among fonts of other families, and among other fonts"
    xs = np.stack([open_image(p, size, 1) for p in t.path])
    rows = torch.cat([embed(net, as_input(xs[i:i+256], w)) for i in range(0, len(xs), 256)])
    rows = torch.nn.functional.normalize(rows.float(), dim=1).numpy()
    like,label,f = rows@rows.T,t.label.to_numpy(),t.font.to_numpy()
    fam = t.font.map(FAMILY).to_numpy()
    def recall(same): return float((label[np.where(same[:,None]==same[None], -9, like).argmax(1)]==label).mean())
    return dict(recall=recall(fam), near=recall(f))

def provenance(a):
    git = lambda *o: subprocess.run(['git', *o], capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    home = Path(cv_recipe.__file__).parent
    code = hashlib.blake2b(b''.join((home/f'{m}.py').read_bytes() for m in MODULES)+Path(__file__).read_bytes(), digest_size=4).hexdigest()
    return dict(commit=git('rev-parse', '--short', 'HEAD'), code=code, python=platform.python_version(), machine=platform.machine(), **{m: version(m) for m in ('numpy','torch','timm','fastai','matplotlib','pillow')},
        steps=a.steps, size=a.size, arch=a.arch, lr=a.lr, each=a.each, classes=a.classes)

def read(out): return list(map(json.loads, out.read_text().splitlines())) if out.exists() else []

def run(a):
    base = provenance(a)
    done = {(o['seed'],o['arm']) for o in read(a.out) if all(o.get(k)==v for k,v in base.items())}
    chars = characters()
    if len(chars)<2*a.classes: sys.exit(f'{len(chars)} characters, and {2*a.classes} are wanted: give fewer --classes')
    for seed in range(a.seeds):
        todo = [k for k in ARMS if (seed,k) not in done]
        if not todo: continue
        rng = np.random.default_rng(derive_seed(seed, 'retrieval'))
        order = rng.permutation(len(chars))
        with tempfile.TemporaryDirectory(dir=a.data) as d:
            old,new = (drawings(Path(d)/k, [chars[i] for i in ii], rng, n, a.size) for k,n,ii in (('old', a.each, order[:a.classes]), ('new', 1, order[a.classes:2*a.classes])))
            src = Source.from_df(old, folder=d, test=0)
            for arm in todo: one(a, base, seed, arm, src, old, new, d, len(chars))

def one(a, base, seed, arm, src, old, new, d, n):
    c = Config(arch=a.arch, weights='random', channels=1, size=a.size, bs=64, steps=a.steps, lr=a.lr, schedule='one_cycle', **ARMS[arm])
    began = time.process_time()
    r = fit(src, c, f'{d}/runs', seed=seed, threads=1, device='cpu', folder=f'{d}/cache', board=False)
    spent,(net,w) = time.process_time()-began,run_model(r, task_for(src))
    p = [float(v) for k,v in net.named_parameters() if k.endswith('pool.0.p')]
    case = dict(seed=seed, arm=arm, **found(net, w, new, a.size), valid=found(net, w, old[old.split=='valid'], a.size)['recall'],
        accuracy=r.metrics['accuracy'], train_loss=r.metrics['train_loss'], p=p[0] if p else None, cpu=round(spent, 1), images=len(new), characters=n)
    with open(a.out, 'a') as f: f.write(json.dumps(base | case)+'\n')
    print(json.dumps(case), flush=True)

def table(a):
    t = pd.DataFrame(read(a.out))
    if not len(t): sys.exit(f'{a.out} holds no case: run comes first')
    for _,g in t.groupby([k for k in provenance(a) if k in t], sort=False, dropna=False):
        print(' '.join(f'{k}={g[k].iloc[0]}' for k in ('commit','code','arch','size','steps','lr','classes')))
        for what in ('recall','near','valid','accuracy'):
            by = g.pivot_table(index='seed', columns='arm', values=what).dropna()
            for arm in [o for o in ARMS if o in by]:
                gain = '' if arm=='softmax' or len(by)<2 else f"gain {paired_interval(by[arm].to_numpy(), by.softmax.to_numpy())}"
                print(f"{what:9} {arm:8} {mean_interval(by[arm].to_numpy()) if len(by)>1 else by[arm].iloc[0]}  {gain}")
        print('cpu seconds ' + ', '.join(f'{k} {v:.0f}' for k,v in g.groupby('arm').cpu.median().items()) + '; learned p ' + ', '.join(f'{k} {v:.2f}' for k,v in g.groupby('arm').p.mean().dropna().items()))

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('what', choices=('run','table'))
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--steps', type=int, default=400)
    p.add_argument('--size', type=int, default=64)
    p.add_argument('--arch', default='test_byobnet')
    p.add_argument('--lr', type=float, default=3e-3)
    p.add_argument('--classes', type=int, default=120, help='characters to train on, and as many new ones')
    p.add_argument('--each', type=int, default=2, help='drawings of a character in a font to train on')
    p.add_argument('--data', type=Path, default=None, help='where drawings lie while a seed is at work')
    p.add_argument('--out', type=Path, default=Path('retrieval.jsonl'))
    a = p.parse_args()
    dict(run=run, table=table)[a.what](a)

if __name__=='__main__': main()
