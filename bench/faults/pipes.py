"""Clean training pipelines on real images, written as fastai's users write them.

A `Draft` holds what its author decides; a fault changes it, or the Learner made of it. `PIPES` names the pipelines, `draft` draws one from a seed, `build` makes its Learner.
"""
import random
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
import torchvision
from fastai.vision.all import *
from torch import nn
from torch.nn import functional as F

from .store import Data, Store

IMAGENET = (.485,.456,.406),(.229,.224,.225)

@dataclass
class Draft:
    "A pipeline as its author wrote it"
    pipe:str
    style:str # block, df, func, arrays, torch or recipe
    data:Data
    rows:np.ndarray # of the data, in the order in which the author lists them
    tr:np.ndarray # positions in `rows`
    va:np.ndarray
    labels:list # one a position: a name, a list of names, a number, or None
    store:Store
    rng:Any
    seed:int = 0
    size:int = 32
    bs:int = 32
    gray:bool = False
    classes:list = field(default_factory=list)
    arch:str = 'test_resnet'
    pretrained:bool = False
    vision:bool = False # made by vision_learner
    y_range:tuple|None = None
    reader:Any = None # path to image, in place of PILImage.create
    mask_reader:Any = None
    get_y:Any = None
    splitter:Any = None
    y_block:Any = None
    item_tfms:list = field(default_factory=list)
    batch_tfms:list = field(default_factory=list)
    to_tensor:Any = None # array to tensor, for arrays and torch
    vto_tensor:Any = None # likewise for validation
    tfm:list = field(default_factory=list) # on single tensors, for torch
    vtfm:list = field(default_factory=list)
    joint:list = field(default_factory=list) # on image and target, for torch
    vjoint:list = field(default_factory=list)
    recode:Any = None # targets as numbers to other such
    vision_kw:dict = field(default_factory=dict)
    dataset:Any = None # class of the torch data set
    dl_kw:dict = field(default_factory=dict)
    train_kw:dict = field(default_factory=dict)
    valid_kw:dict = field(default_factory=dict)
    n_out:int|None = None
    model:Any = None # number of outputs to module
    wraps:list = field(default_factory=list)
    loss:Any = None
    metrics:Any = 'usual'
    opt:Any = Adam
    lr:Any = None
    told_lr:Any = None # what verify is told
    wd:Any = None
    splits:Any = None # parameters to groups
    cbs:list = field(default_factory=list)
    dls_after:list = field(default_factory=list)
    after:list = field(default_factory=list)
    notes:list = field(default_factory=list)

    @property
    def kind(self): return self.data.kind
    @property
    def files(self): return [self.data.files[r] for r in self.rows]
    @property
    def mask_files(self): return [self.data.mask_files[r] for r in self.rows]
    @property
    def x(self): return self.data.x[self.rows]
    @property
    def masks(self): return self.data.masks[self.rows]
    @property
    def c(self): return len(self.data.codes) if self.kind=='segment' else len(self.classes) if self.classes else 1
    @property
    def outputs(self): return self.n_out or self.c
    @property
    def from_files(self): return self.style in ('block','df','func')
    def note(self, **kw): self.notes.append({k: v if isinstance(v, (int,str)) else float(f'{v:.3g}') for k,v in kw.items()})
    def codes_of(self):
        "Labels as numbers, as someone with arrays has them"
        y = self._codes()
        return self.recode(y) if self.recode else y
    def _codes(self):
        if self.kind=='single': return np.array([self.classes.index(o) for o in self.labels])
        if self.kind=='multi': return np.array([[k in o for k in self.classes] for o in self.labels], np.float32)
        return self.masks.astype(np.int64) if self.kind=='segment' else np.array(self.labels, np.float32)

# --- Models

def conv(i, o, bn=True, stride=2, act=nn.ReLU): return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=not bn), *([nn.BatchNorm2d(o)] if bn else []), act())

def cnn(n_out, c_in=3, bn=True, width=16, act=nn.ReLU, drop=0.):
    "The small network of a first tutorial"
    w = width
    return nn.Sequential(conv(c_in, w, bn, 1, act), conv(w, 2*w, bn, 2, act), conv(2*w, 4*w, bn, 2, act), conv(4*w, 4*w, bn, 2, act), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(drop), nn.Linear(4*w, n_out))

class Unet(nn.Module):
    "Two steps down and up again"
    def __init__(self, n_out, c_in=3, width=16, bn=True):
        super().__init__()
        w = width
        self.a,self.b,self.c = conv(c_in, w, bn, 1),conv(w, 2*w, bn),conv(2*w, 4*w, bn)
        self.d,self.e,self.head = conv(6*w, 2*w, bn, 1),conv(3*w, w, bn, 1),nn.Conv2d(w, n_out, 1)
    def forward(self, x):
        a = self.a(x); b = self.b(a); c = self.c(b)
        d = self.d(torch.cat([F.interpolate(c, size=b.shape[-2:]), b], 1))
        return self.head(self.e(torch.cat([F.interpolate(d, size=a.shape[-2:]), a], 1)))

def vit(n_out, size, c_in=3, depth=3, patch=4): return timm.models.VisionTransformer(img_size=size, patch_size=patch, in_chans=c_in, num_classes=n_out, embed_dim=96, depth=depth, num_heads=4)

def dynamic_unet(n_out, size):
    "fastai's, on a narrow body"
    body = nn.Sequential(conv(3, 16), conv(16, 32), conv(32, 48), conv(48, 64))
    return DynamicUnet(body, n_out, size, blur_final=False)

def weights_file(d):
    "A file of pretrained weights for timm, and the name of its model"
    return (d.store.weights, 'mobilenetv2_100') if d.store.weights and d.arch!='test_resnet' else (d.store.own_weights, 'test_resnet')

def pretrained_model(d, n_out):
    file,arch = weights_file(d)
    if arch=='test_resnet': return timm.create_model(arch, pretrained=True, pretrained_cfg_overlay=dict(file=str(file)), num_classes=n_out, in_chans=1 if d.gray else 3)
    return timm.create_model(arch, pretrained=True, num_classes=n_out, pretrained_cfg_overlay=dict(file=str(file)), in_chans=1 if d.gray else 3)

def network(d, n_out):
    "The model of a draft"
    c_in = 1 if d.gray else 3
    if d.model: return d.model(n_out)
    if d.pretrained: return pretrained_model(d, n_out)
    if d.kind=='segment': return Unet(n_out, bn=d.arch!='plain') if d.arch!='dynamic' else dynamic_unet(n_out, d.data.x.shape[1:3])
    if d.arch=='cnn': return cnn(n_out, c_in)
    if d.arch=='plain': return cnn(n_out, c_in, bn=False)
    if d.arch=='vit': return vit(n_out, d.size, c_in, patch=d.size//8)
    if d.arch.startswith('tv_'): return getattr(torchvision.models, d.arch[3:])(num_classes=n_out)
    if d.arch=='test_vit': return timm.create_model(d.arch, num_classes=n_out, in_chans=c_in, img_size=d.size, patch_size=d.size//4)
    return timm.create_model(d.arch, num_classes=n_out, in_chans=c_in)

# --- Data

def y_block(d):
    if d.y_block: return d.y_block
    return dict(single=CategoryBlock, multi=MultiCategoryBlock, regression=RegressionBlock, segment=partial(MaskBlock, codes=d.data.codes))[d.kind]()

def block(d):
    "DataBlock from files"
    cls = PILImageBW if d.gray else PILImage
    x = TransformBlock(type_tfms=d.reader, batch_tfms=IntToFloatTensor) if d.reader else ImageBlock(cls)
    known = dict(zip(d.files, d.mask_files if d.kind=='segment' else d.labels))
    y = y_block(d) if not d.mask_reader else TransformBlock(type_tfms=d.mask_reader, item_tfms=AddMaskCodes(d.data.codes), batch_tfms=IntToFloatTensor)
    db = DataBlock(blocks=(x, y), get_y=d.get_y or (lambda p: known[p]), splitter=d.splitter or IndexSplitter(d.va.tolist()), item_tfms=d.item_tfms, batch_tfms=d.batch_tfms)
    return db.dataloaders(d.files, bs=d.bs, num_workers=0, **d.dl_kw)

def table(d): return pd.DataFrame(dict(name=[str(f) for f in d.files], label=[' '.join(o) if isinstance(o, list) else o for o in d.labels], is_valid=np.isin(np.arange(len(d.rows)), d.va)))

def df(d):
    "ImageDataLoaders from a table"
    delim = dict(label_delim=' ') if d.kind=='multi' else {}
    return ImageDataLoaders.from_df(table(d), path='/', valid_col='is_valid', y_block=None if d.kind=='multi' else y_block(d), item_tfms=d.item_tfms, batch_tfms=d.batch_tfms, bs=d.bs, num_workers=0, **delim, **d.dl_kw)

def func(d):
    "ImageDataLoaders from file names"
    known = dict(zip(d.files, d.labels))
    return ImageDataLoaders.from_path_func('.', d.files, d.get_y or (lambda p: known[p]), valid_pct=.25, seed=d.seed, item_tfms=d.item_tfms, batch_tfms=d.batch_tfms, bs=d.bs, num_workers=0, **d.dl_kw)

def chw(a): return torch.from_numpy(np.ascontiguousarray(a)) if a.ndim==2 else torch.from_numpy(np.ascontiguousarray(a)).permute(2, 0, 1)

def as_image(a): return TensorImage(chw(a) if a.ndim==3 else chw(a)[None])

def arrays(d):
    "Datasets over arrays"
    x,y = d.x,d.codes_of()
    last = {'single': [lambda i: d.labels[i], Categorize()], 'multi': [lambda i: d.labels[i], MultiCategorize(), OneHotEncode()], 'regression': [lambda i: tensor(y[i])], 'segment': [lambda i: TensorMask(y[i])]}[d.kind]
    splits = d.splitter(range(len(x))) if d.splitter else (d.tr.tolist(), d.va.tolist())
    dsets = Datasets(range(len(x)), [[lambda i: (d.to_tensor or as_image)(x[i])], last], splits=splits)
    return dsets.dataloaders(bs=d.bs, num_workers=0, after_item=d.item_tfms, after_batch=[IntToFloatTensor(), *d.batch_tfms], **d.dl_kw)

def to_float(a): return (chw(a) if a.ndim==3 else chw(a)[None]).float()/255

class ArrayData(torch.utils.data.Dataset):
    "The data set that everyone writes"
    def __init__(self, x, y, to_tensor=to_float, tfms=(), joint=()): self.x,self.y,self.to_tensor,self.tfms,self.joint = x,y,to_tensor,tfms,joint
    def __len__(self): return len(self.x)
    def __getitem__(self, i):
        x,y = self.to_tensor(self.x[i]),torch.as_tensor(self.y[i])
        for f in self.tfms: x = f(x)
        for f in self.joint: x,y = f(x, y)
        return x,y

def plain(d):
    "PyTorch's data sets and loaders"
    x,y,cls = d.x,d.codes_of(),d.dataset or ArrayData
    if d.bs>1 and len(d.tr)%d.bs==1: d.tr = d.tr[:-1]   # BatchNorm can't train on the one that is left
    train = cls(x[d.tr], y[d.tr], d.to_tensor or to_float, d.tfm, d.joint)
    valid = cls(x[d.va], y[d.va], d.vto_tensor or d.to_tensor or to_float, d.vtfm, d.vjoint)
    dl = torch.utils.data.DataLoader
    return DataLoaders(dl(train, **dict(batch_size=d.bs, shuffle=True) | d.train_kw), dl(valid, **dict(batch_size=2*d.bs) | d.valid_kw))

STYLES = dict(block=block, df=df, func=func, arrays=arrays, torch=plain)

def usual_loss(d):
    if d.style!='torch': return None if d.style!='arrays' else dict(single=CrossEntropyLossFlat, multi=BCEWithLogitsLossFlat, regression=MSELossFlat, segment=partial(CrossEntropyLossFlat, axis=1))[d.kind]()
    return dict(single=nn.CrossEntropyLoss, multi=nn.BCEWithLogitsLoss, regression=MSELossFlat, segment=partial(nn.CrossEntropyLoss, ignore_index=11))[d.kind]()

def usual_metrics(d): return dict(single=[accuracy], multi=[partial(accuracy_multi, thresh=.5)], regression=[mae], segment=[DiceMulti()])[d.kind]

def learner(d, dls):
    "The Learner of a draft"
    void = d.kind=='segment' and 'void' in d.data.codes and d.style!='torch'
    loss = d.loss if d.loss is not None else CrossEntropyLossFlat(axis=1, ignore_index=11) if void else usual_loss(d)
    kw = dict(loss_func=loss, opt_func=d.opt, metrics=usual_metrics(d) if d.metrics=='usual' else d.metrics, cbs=d.cbs, path=d.store.cache/'learner')
    if d.lr is not None: kw['lr'] = d.lr
    if d.wd is not None: kw['wd'] = d.wd
    if d.splits is not None: kw['splitter'] = d.splits
    if d.vision:
        file,arch = weights_file(d) if d.pretrained else (None, d.arch)
        more = dict(pretrained_cfg_overlay=dict(file=str(file))) if file else {}
        learn = vision_learner(dls, arch, pretrained=d.pretrained, n_out=d.outputs, y_range=d.y_range, **d.vision_kw, **({'n_in':1} if d.gray else {}), **kw, **more)
        for w in d.wraps: learn.model = w(learn.model)
        return learn
    model = network(d, d.outputs)
    for w in d.wraps: model = w(model)
    if d.y_range: model = nn.Sequential(model, SigmoidRange(*d.y_range))
    return Learner(dls, model, **kw)

def recipe(d):
    "This library's own"
    from cv_recipe.data import Source
    from cv_recipe.pipe import Config, get_dls, get_learner
    t = table(d)
    t['split'] = np.where(t.is_valid, 'valid', 'train')
    source = Source.from_df(t[['name','label','split']], path_col='name', kind=d.kind, label_sep=' ' if d.kind=='multi' else None, test=0.)
    file,arch = weights_file(d) if d.pretrained else (None, d.arch)
    dls = get_dls(source, Config(arch=arch, weights=str(file) if file else 'random', size=d.size, bs=d.bs, channels=1 if d.gray else 3), device='cpu', folder=d.store.cache/'recipe')
    for f in d.dls_after: dls = f(dls) or dls
    learn = get_learner(dls, **{k: v for k,v in dict(lr=d.lr, wd=d.wd, loss_func=d.loss, cbs=d.cbs or None, path=d.store.cache/'learner').items() if v is not None})
    for w in d.wraps: learn.model = w(learn.model)
    return learn

def build(d):
    "The Learner of a draft, with all that was done to it"
    set_seed(d.seed); torch.manual_seed(d.seed)
    defaults.callbacks = [o for o in defaults.callbacks if o is not ProgressCallback]
    if d.style=='recipe': learn = recipe(d)
    else:
        dls = STYLES[d.style](d)
        for f in d.dls_after: dls = f(dls) or dls
        learn = learner(d, dls)
    for f in d.after: learn = f(learn) or learn
    return learn

# --- Drafts

def split(rng, n, share=.25):
    p = rng.permutation(n)
    k = max(1, int(n*share))
    return np.sort(p[k:]),np.sort(p[:k])

def draft(pipe, store, seed, n=None, data=None, classes=None, colour=False):
    "A clean pipeline drawn from a seed"
    rng = np.random.default_rng([seed, *pipe.encode()])
    p = PIPES[pipe]
    data = store[data or rng.choice([o for o in store.of(*p['data']) if not (colour and o in ('digits','solar'))])]
    rows = np.arange(len(data))
    if data.kind=='multi': rows = rows[[o!='' for o in data.y.tolist()]]
    names = sorted(set(data.y.tolist())) if data.kind=='single' else sorted({k for o in data.y.tolist() for k in o.split()}) if data.kind=='multi' else []
    if classes and data.kind=='single':
        names = sorted(rng.choice(names, min(classes, len(names)), replace=False).tolist())
        rows = rows[np.isin(data.y, names)]
    rows = rng.permutation(rows)[:n or int(rng.integers(320, 640))]
    if data.kind=='single': names = [k for k in names if (data.y[rows]==k).any()]
    y = [None]*len(rows) if data.y is None else [o.split() for o in data.y[rows].tolist()] if data.kind=='multi' else data.y[rows].tolist()
    tr,va = split(rng, len(rows))
    d = Draft(pipe, p['style'], data, rows, tr, va, y, store, rng, int(rng.integers(1<<30)), size=data.x.shape[1], bs=int(rng.choice([16,24,32])), classes=names)
    d.gray = data.x.ndim==3 and p['style'] in ('arrays','torch')
    if data.name=='camvid': d.bs = 8
    p['make'](d)
    return d

def _files(d): d.item_tfms = [Resize(d.size)]
def _pets(d):
    _files(d)
    d.batch_tfms = [*aug_transforms(max_rotate=8., max_warp=.1), Normalize.from_stats(*IMAGENET)]
    d.arch = 'test_resnet'
def _folder(d):
    _files(d)
    d.arch,d.vision,d.batch_tfms = 'test_resnet',True,aug_transforms(do_flip=False, max_rotate=8.)
def _transfer(d):
    _files(d)
    d.pretrained,d.vision,d.arch = True,True,str(d.rng.choice(['test_resnet','mobilenetv2_100']))
    d.batch_tfms = aug_transforms(max_rotate=5., max_warp=0.)
def _arrays(d):
    d.arch = str(d.rng.choice(['cnn','plain']))
    if not d.gray: d.batch_tfms = [Normalize.from_stats(*IMAGENET)]
def _torch(d):
    d.arch = str(d.rng.choice(['cnn','plain','test_resnet']))
    d.tfm = [torchvision.transforms.RandomHorizontalFlip(), torchvision.transforms.Normalize(*IMAGENET)]
    d.vtfm = [torchvision.transforms.Normalize(*IMAGENET)]
    d.opt = partial(OptimWrapper, opt=torch.optim.AdamW)
def _torch_transfer(d):
    _torch(d)
    d.pretrained,d.arch = True,str(d.rng.choice(['test_resnet','mobilenetv2_100']))
def _multi(d):
    _files(d)
    d.arch,d.batch_tfms = 'test_resnet',[Normalize.from_stats(*IMAGENET)]
def _multi_torch(d):
    d.arch = 'cnn'
    d.tfm = d.vtfm = [torchvision.transforms.Normalize(*IMAGENET)]
def _regress(d):
    _files(d)
    d.arch,d.batch_tfms = 'test_resnet',[Normalize.from_stats(*IMAGENET)]
def _regress_torch(d): d.arch = 'cnn'
def _segment(d): d.batch_tfms = [*aug_transforms(max_warp=0., max_rotate=5.), Normalize.from_stats(*IMAGENET)]
def flip_both(x, y): return (x.flip(-1), y.flip(-1)) if torch.rand(1)<.5 else (x, y)
def _segment_torch(d):
    d.joint = [flip_both]
    d.arch = str(d.rng.choice(['unet','plain']))
def _vit(d):
    _files(d)
    d.arch,d.batch_tfms,d.lr = 'vit',[*aug_transforms(do_flip=False, max_rotate=5.), Normalize.from_stats(*IMAGENET)],5e-4
def _recipe(d): d.arch = 'test_resnet'

PIPES = {
    'files': dict(style='block', data=('photos','trash','cifar'), make=_pets),
    'folder': dict(style='func', data=('digits','photos','cifar'), make=_folder),
    'transfer': dict(style='df', data=('photos','cifar','trash'), make=_transfer),
    'arrays': dict(style='arrays', data=('digits','photos','cifar'), make=_arrays),
    'torch': dict(style='torch', data=('photos','cifar'), make=_torch),
    'torch_transfer': dict(style='torch', data=('photos','cifar'), make=_torch_transfer),
    'multi': dict(style='df', data=('sums','cells','cards'), make=_multi),
    'multi_torch': dict(style='torch', data=('sums','cells'), make=_multi_torch),
    'regress': dict(style='block', data=('spots','solar'), make=_regress),
    'regress_torch': dict(style='torch', data=('spots',), make=_regress_torch),
    'segment': dict(style='block', data=('scenes','camvid'), make=_segment),
    'segment_torch': dict(style='torch', data=('scenes','camvid'), make=_segment_torch),
    'vit': dict(style='df', data=('digits','cifar','photos'), make=_vit),
    'recipe': dict(style='recipe', data=('digits','photos','cifar'), make=_recipe),
}
