"""What an epoch of training costs: fastai's default, this library's loaders and `Learner`, and a hand-written loop on the same cache.

    python bench/epoch.py FOLDER [--size 128] [--arch mobilenetv3_small_100] [--rounds 5] [--bs 64] [--epochs 4] [--out epoch.jsonl]

FOLDER has a folder a class. Every round runs all arms in turn, so that a busy machine is unfair to all of them alike; each arm's first call warms it up and isn't counted; a call is four epochs, so that what a fit costs once is spread as in life.
One thread, CPU seconds an image, training alone (the validation set of every arm is one batch). Quote ratios within a round.
Each measurement is one JSON line in `--out`; started again at the same commit, the bench does only the rounds that are not there.

- `fastai`: `ImageDataLoaders` with `Resize` and `aug_transforms`, `Learner` with Adam: fastai's default
- `ours`: `get_dls` with `aug='onepass'`, `get_learner`, `fit_one_cycle`
- `ours_fastai_aug`: the same with fastai's augmentation, at the strength of its default
- `ours_plain`: the same without augmentation, which is the default `Config`
- `hand`, `hand_plain`: a loop of ten lines on the same cache with the same augmentation, model and optimizer; nothing logged
"""
import argparse, json, os, platform, statistics, subprocess, sys, time
from importlib.metadata import version
from pathlib import Path
os.environ.update(OMP_NUM_THREADS='1', CV_RECIPE_OFFLINE='1')

import numpy as np
import timm
import torch
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.optimizer import Adam
from fastai.torch_core import TensorImage
from fastai.vision.augment import Resize, aug_transforms
from fastai.vision.data import ImageDataLoaders

from cv_recipe.cache import cache_images
from cv_recipe.data import Source
from cv_recipe.loader import OnePass
from cv_recipe.model import create_model, standardised
from cv_recipe.pipe import Config, MatrixDecay, get_dls, get_learner, resolve

def fastai_arm(src, a):
    "fastai as its tutorials have it"
    paths = dict(zip(map(str, src.paths), src.df.label))
    few = {str(p) for p in src.valid.paths[:8]}
    files = [p for p,s in zip(src.paths, src.df.split) if s=='train' or str(p) in few]
    dls = ImageDataLoaders.from_path_func(src.root, files, lambda p: paths[str(p)], valid_pct=8/len(files), item_tfms=Resize(a.size), batch_tfms=aug_transforms(), bs=a.bs, num_workers=0)
    learn = Learner(dls, timm.create_model(a.arch, num_classes=len(src.classes)), loss_func=CrossEntropyLossFlat(), opt_func=Adam)
    n = len(dls.train)*a.bs*a.epochs
    def epoch():
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(a.epochs, 1e-3)
    return epoch,n

def ours_arm(src, a, aug):
    few = src.where(src.df.id.isin([*src.train.df.id, *src.valid.df.id[:8]]))
    c,w = resolve(Config(arch=a.arch, weights='random', size=a.size, bs=a.bs, aug=aug, flip=True), few)
    learn = get_learner(get_dls(few, c, w, 'cpu'), metrics=[])
    def epoch():
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(a.epochs, 1e-3)
    return epoch,len(learn.dls.train_ds)*a.epochs

def hand_arm(src, a, aug):
    "No fastai: indices, a gather, forward, back, step"
    few = src.train
    cache = cache_images(few, a.size)
    _,w = resolve(Config(arch=a.arch, weights='random', size=a.size), src)
    model = create_model(w, len(src.classes)).train().to(memory_format=torch.channels_last)
    opt,y = MatrixDecay(model.parameters(), lr=1e-3, fused=True, weight_decay=0.),torch.tensor([src.classes.index(l) for l in few.df.label])
    rows,loss_func,mean_std = np.flatnonzero(cache.rows>=0),torch.nn.CrossEntropyLoss(),w.stats(3)
    def epoch():
        for ii in (o[i:i+a.bs] for o in (np.random.permutation(rows) for _ in range(a.epochs)) for i in range(0, len(rows), a.bs)):
            x = torch.from_numpy(cache.take(ii)).permute(0, 3, 1, 2)
            if aug: x = OnePass(1.)(TensorImage(x.float()/255), split_idx=0).as_subclass(torch.Tensor)*255
            loss_func(model(standardised(x, *mean_std)), y[ii]).backward()
            opt.step(); opt.zero_grad()
    return epoch,len(rows)*a.epochs

ARMS = dict(fastai=fastai_arm, ours=lambda s,a: ours_arm(s, a, 'onepass'), ours_fastai_aug=lambda s,a: ours_arm(s, a, 'fastai'), ours_plain=lambda s,a: ours_arm(s, a, 'none'),
    hand=lambda s,a: hand_arm(s, a, True), hand_plain=lambda s,a: hand_arm(s, a, False))

def main():
    p = argparse.ArgumentParser()
    p.add_argument('folder'); p.add_argument('--size', type=int, default=128); p.add_argument('--arch', default='mobilenetv3_small_100')
    p.add_argument('--rounds', type=int, default=5); p.add_argument('--bs', type=int, default=64); p.add_argument('--epochs', type=int, default=4); p.add_argument('--out', default='epoch.jsonl')
    a = p.parse_args()
    torch.set_num_threads(1)
    commit = subprocess.run(['git','rev-parse','--short','HEAD'], capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    src = Source.from_folder(a.folder, valid=.1, test=0.)
    case = dict(commit=commit, data=Path(a.folder).name, n=len(src), size=a.size, arch=a.arch, bs=a.bs, epochs=a.epochs)
    out = Path(a.out)
    done = [d for d in map(json.loads, out.read_text().splitlines() if out.exists() else []) if all(d.get(k)==v for k,v in case.items())]
    about = dict(python=platform.python_version(), machine=platform.machine(), **{m: version(m) for m in ('torch','fastai','timm','pillow')})
    todo = [r for r in range(a.rounds) if {d['arm'] for d in done if d['round']==r}!=set(ARMS)]
    if todo:
        arms = {k: f(src, a) for k,f in ARMS.items()}
        for f,_ in arms.values(): f()
    for r in todo:
        for k,(f,n) in arms.items():
            t = time.process_time(); f(); ms = (time.process_time()-t)/n*1e3
            line = case | dict(round=r, arm=k, cpu_ms_image=round(ms, 4)) | about
            with open(out, 'a') as o: o.write(json.dumps(line)+'\n')
            done.append(line)
            print(r, k, f'{ms:.2f}', flush=True)
    by = {k: {d['round']: d['cpu_ms_image'] for d in done if d['arm']==k} for k in ARMS}
    for k,base in (('ours','fastai'), ('ours_fastai_aug','fastai'), ('ours_plain','fastai'), ('ours','hand'), ('ours_plain','hand_plain')):
        ratios = [by[base][r]/by[k][r] for r in by[k] if r in by[base]]
        print(f'{k}: {statistics.median(ratios):.2f}x {base} (from {min(ratios):.2f} to {max(ratios):.2f}), median {statistics.median(by[k].values()):.2f} ms an image')

if __name__=='__main__': main()
