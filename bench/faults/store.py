"""Real images, brought to a small size once and kept: arrays in an npz, and the same as files.

`Store(cache, data, weights)` knows what is there. Without `data`, scikit-learn's digits and its two photographs: `digits` (10 classes), `photos` (6 regions), `grid` (100 regions), and made of them `sums` (digits on a photograph: several labels), `spots` (where the digit lies: regression) and `scenes` (masks of digits). With `data`, a folder of unpacked data sets, also `cifar`, `trash`, `solar`, `cells`, `cards` and `camvid`, as far as they lie there.
"""
import os, shutil
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

@dataclass
class Data:
    "Images with what is known of them; `files[i]` holds `x[i]`"
    name:str
    kind:str
    x:np.ndarray # uint8, n x h x w (x 3)
    y:np.ndarray # names; for several labels names between spaces; numbers; None for masks
    files:list
    masks:np.ndarray|None = None
    mask_files:list = field(default_factory=list)
    codes:list = field(default_factory=list) # of masks
    def __len__(self): return len(self.x)

def small(im, size, mode='RGB'):
    "`im` with its shorter side brought to `size` and cut to a square"
    s = min(im.size)
    l,t = (im.width-s)//2,(im.height-s)//2
    return np.asarray(im.convert(mode).resize((size,size), Image.Resampling.BICUBIC, box=(l, t, l+s, t+s)))

# --- What everyone has

def photographs():
    from sklearn.datasets import load_sample_images
    return dict(zip(('china','flower'), load_sample_images().images))

def digit_images(): 
    from sklearn.datasets import load_digits
    d = load_digits()
    return (d.images*255/16).astype(np.uint8),d.target

def tiles(cell, size, name):
    "The two photographs cut to squares of `cell` pixels, with a name for where they lie"
    x,y = [],[]
    for photo,im in photographs().items():
        h,w = im.shape[0]//cell,im.shape[1]//cell
        for r in range(h):
            for c in range(w):
                x.append(np.asarray(Image.fromarray(im[r*cell:(r+1)*cell, c*cell:(c+1)*cell]).resize((size,size), Image.Resampling.BICUBIC)))
                y.append(name(photo, r/h, c/w))
    return np.stack(x),np.array(y)

def make_digits():
    x,y = digit_images()
    return dict(kind='single', x=np.stack([np.asarray(Image.fromarray(o).resize((32,32), Image.Resampling.BICUBIC)) for o in x]), y=y.astype(str))

def make_photos():
    x,y = tiles(24, 32, lambda p,r,c: f"{p}_{('top','middle','bottom')[int(r*3)] if p=='china' else ('left','centre','right')[int(c*3)]}")
    return dict(kind='single', x=x, y=y)

def make_grid():
    x,y = tiles(16, 32, lambda p,r,c: f'{p}{int(r*5)}{int(c*10)}')
    return dict(kind='single', x=x, y=y)

def composed(n, size, count, seed, scale=(12,20)):
    "Digits pasted into photographs: images, masks of 1 (0 to 4) and 2 (5 to 9), which digits, and the place of the last"
    rng,(dx,dy),photos = np.random.default_rng(seed),digit_images(),list(photographs().values())
    x,m,names,place = [],[],[],[]
    for _ in range(n):
        p = photos[rng.integers(2)]
        t,l = rng.integers(0, p.shape[0]-2*size),rng.integers(0, p.shape[1]-2*size)
        im,mask,own = np.asarray(Image.fromarray(p[t:t+2*size, l:l+2*size]).resize((size,size), Image.Resampling.BICUBIC)).copy(),np.zeros((size,size), np.uint8),set()
        for _ in range(rng.integers(1, count+1)):
            i,s = rng.integers(len(dx)),int(rng.integers(*scale))
            d = np.asarray(Image.fromarray(dx[i]).resize((s,s), Image.Resampling.BICUBIC))
            r,c = rng.integers(0, size-s+1, 2)
            ink = d>100
            im[r:r+s, c:c+s][ink] = np.array([255,235,40] if dy[i]<5 else [250,60,200])*(d[ink][:,None]/255)
            mask[r:r+s, c:c+s][ink] = 1 if dy[i]<5 else 2
            own.add(int(dy[i]))
        x.append(im); m.append(mask); names.append(' '.join(map(str, sorted(own)))); place.append((c+s/2)/size)
    return np.stack(x),np.stack(m),np.array(names),np.array(place, np.float32)

def make_sums():
    x,_,y,_ = composed(1000, 32, 3, 1)
    return dict(kind='multi', x=x, y=y)
def make_spots():
    x,_,_,y = composed(800, 32, 1, 2)
    return dict(kind='regression', x=x, y=y)
def make_scenes():
    x,m,_,_ = composed(360, 48, 4, 3)
    return dict(kind='segment', x=x, y=None, masks=m, codes=['ground','low','high'])

# --- What lies in a folder

def make_cifar(root, per=250):
    x,y = [],[]
    for c in sorted(p.name for p in (root/'cifar10/train').iterdir() if p.is_dir()):
        for p in sorted((root/'cifar10/train'/c).glob('*.jpg'))[:per]: x.append(np.asarray(Image.open(p).convert('RGB'))); y.append(c)
    return dict(kind='single', x=np.stack(x), y=np.array(y))

def make_trash(root):
    files = sorted((root/'trashnet').rglob('*.jpg'))
    return dict(kind='single', x=np.stack([small(Image.open(p), 64) for p in files]), y=np.array([p.parent.name for p in files]))

def make_solar(root):
    t = pd.read_csv(root/'elpv_solar/labels.csv')
    at = lambda p: next(q for q in (root/'elpv_solar'/p, root/'elpv_solar/images'/Path(p).name) if q.exists())
    return dict(kind='regression', x=np.stack([small(Image.open(at(p)), 64, 'L') for p in t.path]), y=t.prob.to_numpy(np.float32))

def make_cells(root):
    t = pd.read_csv(root/'bccd/counts.csv')
    names = [' '.join(k for k,v in (('platelets',r.Platelets>0),('many',r.RBC>11),('white',r.WBC>0)) if v) for r in t.itertuples()]
    return dict(kind='multi', x=np.stack([small(Image.open(root/'bccd/JPEGImages'/p), 64) for p in t.filename]), y=np.array(names))

def make_cards(root):
    t = pd.concat([pd.read_csv(root/f'playing_cards/{s}_labels.csv').assign(at=s) for s in ('train','test')])
    x,y = [],[]
    for (s,f),g in t.groupby(['at','filename']): x.append(small(Image.open(root/'playing_cards'/s/f), 64)); y.append(' '.join(sorted(set(g['class']))))
    return dict(kind='multi', x=np.stack(x), y=np.array(y))

def make_camvid(root):
    codes = 'sky building pole road pavement tree sign fence car pedestrian bicyclist void'.split()
    files = [p for s in ('train','val','test') for p in sorted((root/'camvid'/s).glob('*.png'))]
    x = np.stack([np.asarray(Image.open(p).convert('RGB').resize((64,48), Image.Resampling.BICUBIC)) for p in files])
    m = np.stack([np.asarray(Image.open(p.parent.with_name(p.parent.name+'annot')/p.name).resize((64,48), Image.Resampling.NEAREST)) for p in files])
    return dict(kind='segment', x=x, y=None, masks=m, codes=codes)

OWN = dict(digits=make_digits, photos=make_photos, grid=make_grid, sums=make_sums, spots=make_spots, scenes=make_scenes)
MORE = dict(cifar=('cifar10',make_cifar), trash=('trashnet',make_trash), solar=('elpv_solar',make_solar), cells=('bccd',make_cells), cards=('playing_cards',make_cards), camvid=('camvid',make_camvid))

# --- The cache

def write(folder, kind, x, y, masks=None, codes=()):
    "`folder` with data.npz and files; those with one label lie in a folder of its name"
    part = folder.with_name(folder.name+f'.{os.getpid()}')
    shutil.rmtree(part, ignore_errors=True)
    order = np.random.default_rng(0).permutation(len(x))   # the number of a file says nothing
    x,y,masks = x[order],None if y is None else y[order],None if masks is None else masks[order]
    names = [f'img/{y[i]}/{i}.png' if kind=='single' else f'img/{i}.png' for i in range(len(x))]
    for i,n in enumerate(names):
        (part/n).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[i]).save(part/n, compress_level=1)
        if masks is not None:
            (part/'mask').mkdir(exist_ok=True)
            Image.fromarray(masks[i]).save(part/'mask'/f'{i}.png', compress_level=1)
    np.savez(part/'data.npz', x=x, y=np.zeros(0) if y is None else y, masks=np.zeros(0) if masks is None else masks, kind=kind, names=names, codes=list(codes))
    try: part.rename(folder)
    except OSError: shutil.rmtree(part)   # another process was first

class Store:
    "What data and weights there are"
    def __init__(self, cache, data=None, weights=None):
        self.cache,self.data,self.weights = Path(cache).absolute(),None if data is None else Path(data),None if weights is None else Path(weights).absolute()
        self.names = [*OWN, *(k for k,(d,_) in MORE.items() if self.data and (self.data/d).is_dir())]
    def fill(self):
        "Make what is not there"
        for n in self.names:
            if not (self.cache/n).exists():
                self.cache.mkdir(parents=True, exist_ok=True)
                write(self.cache/n, **(OWN[n]() if n in OWN else MORE[n][1](self.data)))
        if not self.own_weights.exists(): pretrain(self)
        return self
    @property
    def own_weights(self): return self.cache/'test_resnet.safetensors'
    def of(self, *names): return [n for n in names if n in self.names]
    def __getitem__(self, name): return load(self.cache/name)

@lru_cache(None)
def load(folder):
    d = np.load(folder/'data.npz', allow_pickle=False)
    masks = d['masks'] if d['masks'].size else None
    files = [folder/n for n in d['names'].tolist()]
    return Data(folder.name, str(d['kind']), d['x'], d['y'] if d['y'].size else None, files, masks, [] if masks is None else [folder/'mask'/p.name for p in files], d['codes'].tolist())

def pretrain(store, epochs=3, arch='test_resnet', seed=0):
    "A small network that has learned where in a photograph a tile lies, under ImageNet's normalisation"
    import timm, torch
    from safetensors.torch import save_file
    from torch.nn import functional as F
    torch.manual_seed(seed)
    d = store['grid']
    mean,std = (torch.tensor(o).view(1,3,1,1) for o in ((.485,.456,.406),(.229,.224,.225)))
    x = ((torch.from_numpy(d.x).permute(0,3,1,2).float()/255)-mean)/std
    names,y = np.unique(d.y, return_inverse=True)
    y,model = torch.from_numpy(y),timm.create_model(arch, num_classes=len(names))
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=.01)
    steps = epochs*(len(x)//64)
    plan = torch.optim.lr_scheduler.OneCycleLR(opt, 3e-3, total_steps=steps)
    rng = torch.Generator().manual_seed(seed)
    for i in range(steps):
        if i%(len(x)//64)==0: order = torch.randperm(len(x), generator=rng)
        b = order[i%(len(x)//64)*64:][:64]
        xb = torch.roll(x[b], tuple(torch.randint(-4, 5, (2,), generator=rng).tolist()), (2,3))
        if torch.rand(1, generator=rng)<.5: xb = xb.flip(3)
        F.cross_entropy(model(xb), y[b]).backward()
        opt.step(); opt.zero_grad(); plan.step()
    save_file({k: v.contiguous() for k,v in model.state_dict().items()}, store.own_weights)
    return model
