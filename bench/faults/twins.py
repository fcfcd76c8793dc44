"""Clean twins: pipelines without a fault, which differ in whatever may differ. `twin(i, store, seed)` is the i-th."""
from dataclasses import replace

import numpy as np
import torch
import torchvision.transforms as T
from fastai.vision.all import *
from fastai.callback.fp16 import AMPMode
from torch import nn
from torch.nn import functional as F

from .pipes import IMAGENET, PIPES, cnn, conv, draft, split

ORDER = 'files torch folder arrays transfer vit torch segment regress multi recipe torch_transfer files multi_torch regress_torch segment_torch'.split()
SMALL = ['test_resnet','test_efficientnet','test_convnext','cnn','plain','test_resnet','mobilenetv3_small_050','tv_mobilenet_v3_small']
LARGE = ['resnet10t','tv_resnet18']

def group_norm(n_out, c_in=3):
    "A small network with GroupNorm"
    m = cnn(n_out, c_in)
    for b in m[:4]: b[1] = nn.GroupNorm(4, b[1].num_features)
    return m

def few(d, n):
    "Only `n` rows for training"
    keep = np.sort(np.concatenate([d.rng.permutation(d.tr)[:n], d.va[:max(16, n//3)]]))
    _take(d, keep)

def _take(d, keep):
    va = set(d.va.tolist())
    d.rows,d.labels = d.rows[keep],[d.labels[i] for i in keep]
    valid = np.array([i in va for i in keep])
    d.tr,d.va = np.nonzero(~valid)[0],np.nonzero(valid)[0]
    if d.kind=='single': d.classes = [k for k in d.classes if k in set(d.labels)]

def imbalance(d, most=20):
    "One class in full, the last with a twentieth of it"
    share = dict(zip(d.classes, np.geomspace(1, 1/most, len(d.classes))))
    count = {k: 0 for k in d.classes}
    total = {k: d.labels.count(k) for k in d.classes}
    keep = []
    for i,k in enumerate(d.labels):
        if count[k]<max(4, total[k]*share[k]): keep.append(i); count[k] += 1
    _take(d, np.array(keep))
    for k in d.classes:   # each class is on both sides
        own = [i for i in range(len(d.labels)) if d.labels[i]==k]
        inside = set(d.va.tolist())
        if all(i in inside for i in own): d.va = np.array([i for i in d.va if i!=own[0]]); d.tr = np.sort(np.append(d.tr, own[0]))

def to_gray(d):
    "Colour images read as gray"
    x = (d.data.x@np.array([.299,.587,.114])).astype(np.uint8)
    d.data,d.gray = replace(d.data, x=x),True
    d.batch_tfms = [o for o in d.batch_tfms if not isinstance(o, Normalize)]
    d.tfm,d.vtfm = ([o for o in t if not isinstance(o, T.Normalize)] for t in (d.tfm, d.vtfm))
    if d.from_files: d.batch_tfms.append(Normalize.from_stats((.45,), (.25,)))

def one_hot_bce(p, y): return F.binary_cross_entropy_with_logits(p.as_subclass(torch.Tensor), F.one_hot(y.as_subclass(torch.Tensor).long(), p.shape[1]).float())

class Combined:
    "Cross-entropy and Dice"
    def __init__(self): self.ce,self.dice = CrossEntropyLossFlat(axis=1),DiceLoss()
    def __call__(self, p, y): return self.ce(p, y)+self.dice(p, y)
    def decodes(self, x): return x.argmax(1)
    def activation(self, x): return x.softmax(1)

def losses(d):
    if d.kind=='single': return dict(smooth=LabelSmoothingCrossEntropyFlat(eps=.1), focal=FocalLossFlat(), one_hot=one_hot_bce, weighted=CrossEntropyLossFlat(weight=torch.linspace(.5, 2, d.c)), torch_smooth=nn.CrossEntropyLoss(label_smoothing=.1))
    if d.kind=='multi': return dict(weighted=nn.BCEWithLogitsLoss(pos_weight=torch.full((d.c,), 3.)), soft_margin=nn.MultiLabelSoftMarginLoss())
    if d.kind=='regression': return dict(l1=L1LossFlat(), huber=BaseLoss(nn.SmoothL1Loss, floatify=True, is_2d=False), huber_small=BaseLoss(nn.HuberLoss, delta=.2, floatify=True, is_2d=False))
    return dict(focal=FocalLossFlat(axis=1), dice=DiceLoss(), both=Combined(), ce=nn.CrossEntropyLoss()) if d.data.name=='scenes' else dict(smooth=nn.CrossEntropyLoss(ignore_index=11, label_smoothing=.05))

def augmentations(d):
    if d.style=='torch': return dict(none=[], crop=[T.RandomResizedCrop(d.size, scale=(.5, 1), antialias=True)], jitter=[T.ColorJitter(.3, .3, .3)], erase=[T.RandomErasing(p=.5)], turn=[T.RandomRotation(10)])
    stats = [o for o in d.batch_tfms if isinstance(o, Normalize)]
    return dict(none=stats, default=[*aug_transforms(), *stats], strong=[*aug_transforms(mult=1.5, max_warp=.3), *stats], erase=[*aug_transforms(do_flip=False), *stats, RandomErasing(p=.5, max_count=3)], light=[*aug_transforms(max_rotate=0., max_zoom=1., max_warp=0.), *stats])

def optimizers(d): return dict(ranger=ranger, sgd=SGD, radam=RAdam, rmsprop=RMSProp, lamb=Lamb, adamw=partial(OptimWrapper, opt=torch.optim.AdamW), momentum=partial(OptimWrapper, opt=torch.optim.SGD, momentum=.9), torch_adam=partial(OptimWrapper, opt=torch.optim.Adam))

def pick(rng, table):
    k = str(rng.choice(list(table)))
    return k,table[k]

# --- Variations: each changes a draft and says how, or gives None where it does not apply

def v_batch(d, rng):
    d.bs = int(rng.choice([8,12,48,64,128])) if d.size<=48 else 8
    return f'bs={d.bs}'
def v_few(d, rng):
    n = int(rng.choice([64,80,120]))
    if d.c>8 or len(d.tr)<n: return
    few(d, n); d.bs = min(d.bs, 16)
    return f'{n} rows'
def v_imbalance(d, rng):
    if d.kind!='single' or d.c>20: return
    imbalance(d)
    return 'imbalance'
def v_gray(d, rng):
    if d.gray or d.data.x.ndim!=4 or d.pretrained or d.kind not in ('single','regression') or d.style in ('df','func','recipe','arrays'): return
    to_gray(d)
    return 'gray'
def v_arch(d, rng):
    if d.kind=='segment':
        d.arch = str(rng.choice(['unet','plain','dynamic']))
        return d.arch
    if d.pretrained or d.style=='recipe': return
    if d.pipe=='vit':
        d.arch = str(rng.choice(['vit','test_vit']))
        return d.arch
    d.arch = str(rng.choice(LARGE if rng.random()<.08 and d.size<=32 and not d.gray else SMALL[:4] if d.vision else SMALL))
    if d.vision: d.arch = str(rng.choice(['test_resnet','test_efficientnet']))
    if d.gray and d.arch.startswith('tv_'): d.arch = 'cnn'
    if d.arch=='cnn' and rng.random()<.3:
        c = 1 if d.gray else 3
        d.model = lambda n: group_norm(n, c)
        return 'group norm'
    return d.arch
def v_loss(d, rng):
    if d.style=='recipe': return
    k,d.loss = pick(rng, losses(d))
    return f'loss {k}'
def v_aug(d, rng):
    if d.style in ('recipe','arrays') or d.gray: return
    k,t = pick(rng, augmentations(d))
    if d.style!='torch': d.batch_tfms = t if d.kind!='segment' or k!='erase' else d.batch_tfms
    elif d.kind in ('segment','regression'): return
    else: d.tfm = [*t, *[o for o in d.tfm if isinstance(o, T.Normalize)]]
    return f'aug {k}'
def v_crop(d, rng):
    if not d.from_files or d.kind in ('segment','regression') or d.gray: return
    d.item_tfms = [RandomResizedCrop(d.size, min_scale=float(rng.uniform(.35, .8)))]
    return 'random crop'
def v_opt(d, rng):
    if d.style=='recipe': return
    k,d.opt = pick(rng, optimizers(d))
    if k in ('sgd','momentum','rmsprop'): d.lr = 1e-2 if k!='rmsprop' else 1e-3
    return f'opt {k}'
def v_mix(d, rng):
    if d.kind!='single' or d.style=='recipe' or (d.loss is not None and not hasattr(d.loss, 'y_int')): return
    if d.loss is None: d.loss = CrossEntropyLossFlat()   # PyTorch's own would need targets that mix
    cb = MixUp(float(rng.uniform(.2, .6))) if rng.random()<.5 else CutMix(1.)
    d.cbs.append(cb)
    return type(cb).__name__
def v_accumulate(d, rng):
    d.cbs.append(GradientAccumulation(n_acc=2*d.bs))
    return 'accumulation'
def v_clip(d, rng):
    d.cbs.append(GradientClip(float(rng.choice([.5,1.,5.]))))
    return 'clip'
def v_half(d, rng):
    if d.style=='recipe': return
    d.cbs.append(MixedPrecision(amp_mode=AMPMode.BF16))
    return 'bf16'
def v_lr(d, rng):
    d.told_lr = float(10**rng.uniform(-4, -2.3)) if d.opt is not SGD else 1e-2
    return 'lr told'
def v_wd(d, rng):
    d.wd = float(rng.choice([0., .01, .1, .3]))
    return f'wd={d.wd}'
def v_trained(d, rng):
    if d.size>48: return
    def fit(l):
        with l.no_bar(), l.no_logging(): l.fit(2 if d.kind!='segment' else 1, lr=d.told_lr)
    d.after.append(fit)
    return 'trained'
def v_unfreeze(d, rng):
    if not d.vision or not d.pretrained: return
    d.after.append(lambda l: l.unfreeze())
    return 'unfrozen'
def v_freeze(d, rng):
    if d.pipe!='torch_transfer': return
    def freeze(m):
        for n,p in m.named_parameters(): p.requires_grad_('fc' in n or 'classifier' in n)
        return m
    d.wraps.append(freeze)
    return 'frozen body'
def v_sampler(d, rng):
    if d.style!='torch' or d.kind!='single': return
    y = d.codes_of()[d.tr]
    w = 1/np.maximum(np.bincount(y, minlength=d.c), 1)[y]
    d.train_kw |= dict(sampler=torch.utils.data.WeightedRandomSampler(w.tolist(), len(w)), shuffle=False)
    return 'weighted sampler'
def v_drop_last(d, rng):
    if d.style!='torch': return
    d.train_kw['drop_last'] = True
    return 'drop_last'
def v_plain(d, rng):
    if d.style!='torch' or d.pretrained: return
    d.tfm,d.vtfm = [o for o in d.tfm if not isinstance(o, T.Normalize)],[]
    return 'no Normalize'
def v_workers(d, rng):
    if d.style!='torch' or rng.random()<.5: return
    d.train_kw['num_workers'] = 1
    return 'worker'
def v_y_range(d, rng):
    if d.kind!='regression': return
    d.y_range = (-.1, 1.1)
    return 'y_range'
def v_units(d, rng):
    if d.kind!='regression' or d.y_range: return
    a,b = (1, 0) if rng.random()<.3 else (float(rng.choice([5., 10., 32.])), 0.)
    y = np.array(d.labels, np.float32)
    d.labels = (y*a+b if rng.random()<.5 else (y-y.mean())/y.std()).tolist()
    return 'units'
def v_metrics(d, rng):
    d.metrics = []
    return 'no metrics'
def v_more_metrics(d, rng):
    if d.style=='recipe': return
    d.metrics = dict(single=[error_rate, accuracy, *([partial(top_k_accuracy, k=2)] if d.c>2 else [])], multi=[F1ScoreMulti(), partial(accuracy_multi, thresh=.3)], regression=[rmse, R2Score()], segment=[foreground_acc, JaccardCoeffMulti()])[d.kind]
    return 'metrics'
def v_drop(d, rng):
    if d.vision: d.vision_kw['ps'] = float(rng.choice([0., .25, .7]))
    elif d.arch=='cnn' and not d.model:
        c = 1 if d.gray else 3
        d.model = lambda n: cnn(n, c, drop=.5)
    else: return
    return 'dropout'

EVERY = [f for k,f in list(globals().items()) if k.startswith('v_')]   # in this order: what comes later looks at what came before

def twin(i, store, seed):
    "The i-th clean draft of a seed, and in what it differs"
    rng = np.random.default_rng([seed, i, 77])
    pipe = ORDER[i%len(ORDER)]
    kw = {}
    if 'photos' in PIPES[pipe]['data'] and pipe!='recipe':
        k = int(rng.choice([0,0,0,2,3,5,8,20,100]))
        if k>10: kw = dict(data='grid', classes=k, n=1600 if k>50 else None)
        elif k: kw = dict(classes=k)
    d = draft(pipe, store, int(rng.integers(1<<30)), **kw)
    what = [f'{len(d.classes)} classes'] if kw else []
    some = {v_arch, *rng.choice([f for f in EVERY if f is not v_arch], int(rng.integers(1, 5)), replace=False)}
    what += [said for f in EVERY if f in some and (said := f(d, rng))]
    if d.kind=='single' and d.c>20 and d.bs<16: d.bs = 16
    return d,what
