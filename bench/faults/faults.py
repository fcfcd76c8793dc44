"""Faults as people make them: each function breaks a clean `Draft`, and says the slug of what it did.

`FAULTS` lists them; `CASES` pairs each with the pipelines that it can be made in. How bad it gets is drawn from the seed, always so that training suffers.
"""
import random
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import timm
import torch
import torchvision.transforms as T
from fastai.vision.all import *
from PIL import Image
from torch import nn
from torch.nn import functional as F

from .pipes import IMAGENET, ArrayData, Draft, as_image, build, chw, cnn, conv, draft, network, split, to_float

FAULTS = []

@dataclass
class Fault:
    slug:str
    name:str
    pipes:list
    make:object
    colour:bool = False

def fault(slug, pipes, colour=False):
    "Register a function of a draft and a random generator"
    def _(f):
        FAULTS.append(Fault(slug, f.__name__, pipes.split(), f, colour))
        return f
    return _

def tfm(f, order=50, split_idx=None, at=TensorImage):
    "A fastai transform of images alone"
    class Own(Transform):
        def encodes(self, x): return f(x) if isinstance(x, at) else x
    t = Own(); t.order,t.split_idx = order,split_idx
    return t

def by_class(d, p):
    "Positions `p` sorted as a listing of folders is"
    return np.array(sorted(p.tolist(), key=lambda i: (d.labels[i], str(d.files[i]))))

def normalize(d): return T.Normalize(*IMAGENET)
def without(tfms, kind): return [o for o in tfms if not isinstance(o, kind)]

# --- What enters

@fault('labels_shuffled', 'files transfer multi regress recipe')
def csv_in_other_order(d, rng):
    "The csv goes 1, 2, 10 and the sorted files 1, 10, 2"
    number = [int(f.stem) for f in d.files]
    table,listed = sorted(range(len(number)), key=lambda i: number[i]),sorted(range(len(number)), key=lambda i: str(number[i]))
    was = list(d.labels)
    for i,j in zip(listed, table): d.labels[i] = was[j]

@fault('labels_shuffled', 'torch arrays')
def images_shuffled_alone(d, rng):
    "np.random.shuffle on a share of the images, the labels stay"
    some = rng.permutation(len(d.rows))[:int(len(d.rows)*rng.uniform(.6, 1))]
    p = rng.permutation(some)
    was = list(d.labels)
    for i,j in zip(some, p): d.labels[i] = was[j]
    d.note(share=len(some)/len(d.rows))

@fault('labels_shuffled', 'segment_torch')
def masks_in_other_order(d, rng):
    p = rng.permutation(len(d.rows))
    d.recode = lambda y: y[p]

@fault('label_shift', 'torch torch_transfer')
def own_codes_for_validation(d, rng):
    "Validation numbers the classes that it has, and lacks the first"
    d.va = np.array([i for i in d.va if d.labels[i]!=d.classes[0]])
    def recode(y):
        y = y.copy(); y[d.va] -= 1
        return y
    d.recode = recode

@fault('label_shift', 'torch files')
def counted_from_one(d, rng):
    "Classes 1 to n, and an output more so that it runs"
    d.n_out = d.c+1
    if d.style=='torch': d.recode = lambda y: y+1
    else:
        d.y_block = lambda: TransformBlock(type_tfms=lambda o: TensorCategory(d.classes.index(o)+1))
        d.loss = CrossEntropyLossFlat()

@fault('label_range', 'torch torch_transfer')
def unlabelled_as_minus_100(d, rng):
    "What has no label yet is -100, which the loss leaves out without a word"
    lost = rng.permutation(len(d.rows))[:int(len(d.rows)*rng.uniform(.3, .7))]
    def recode(y):
        y = y.copy(); y[lost] = -100
        return y
    d.recode = recode
    d.note(share=len(lost)/len(d.rows))

@fault('label_range', 'multi_torch')
def signs_for_bce(d, rng): d.recode = lambda y: 2*y-1

@fault('label_range', 'multi_torch')
def bytes_for_bce(d, rng): d.recode = lambda y: 255*y

@fault('not_normalised', 'transfer')
def normalize_false(d, rng): d.vision_kw['normalize'] = False

@fault('not_normalised', 'torch_transfer')
def no_normalize(d, rng): d.tfm,d.vtfm = without(d.tfm, T.Normalize),without(d.vtfm, T.Normalize)

@fault('normalised_twice', 'files vit segment')
def normalize_added_again(d, rng): d.dls_after.append(lambda dls: dls.add_tfms([Normalize.from_stats(*IMAGENET)], 'after_batch'))

@fault('normalised_twice', 'torch torch_transfer')
def model_normalizes_too(d, rng):
    class Inside(nn.Module):
        def __init__(self, m):
            super().__init__()
            self.m = m
            for k,v in zip(('mean','std'), IMAGENET): self.register_buffer(k, torch.tensor(v).view(1,3,1,1))
        def forward(self, x): return self.m((x-self.mean)/self.std)
    if rng.random()<.5: d.wraps.append(Inside)
    else: d.tfm,d.vtfm = [*d.tfm, normalize(d)],[*d.vtfm, normalize(d)]

BYTES = [.485*255,.456*255,.406*255],[.229*255,.224*255,.225*255]

@fault('wrong_statistics', 'files torch')
def statistics_of_bytes(d, rng):
    "Mean 124 and deviation 58, on images of 0 to 1"
    d.batch_tfms = [*without(d.batch_tfms, Normalize), Normalize.from_stats(*BYTES)] if d.style!='torch' else []
    d.tfm,d.vtfm = [*without(d.tfm, T.Normalize), T.Normalize(*BYTES)],[T.Normalize(*BYTES)]

@fault('wrong_statistics', 'transfer torch_transfer')
def mean_and_std_swapped(d, rng):
    a,b = IMAGENET
    if d.style=='torch': d.tfm,d.vtfm = [*without(d.tfm, T.Normalize), T.Normalize(b, a)],[T.Normalize(b, a)]
    else: d.batch_tfms = [*d.batch_tfms, Normalize.from_stats(b, a)]

@fault('wrong_statistics', 'vit regress', colour=True)
def variance_for_deviation(d, rng):
    s = tuple(float(o)**2*rng.uniform(.5, 1) for o in IMAGENET[1])
    d.batch_tfms = [*without(d.batch_tfms, Normalize), Normalize.from_stats(IMAGENET[0], s)]

@fault('normalised_apart', 'torch multi_torch torch_transfer')
def forgotten_in_validation(d, rng): d.vtfm = without(d.vtfm, T.Normalize)

@fault('normalised_apart', 'files segment')
def normalize_for_train_alone(d, rng):
    d.batch_tfms = without(d.batch_tfms, Normalize)
    def add(dls): dls.train.after_batch.add(Normalize.from_stats(*IMAGENET, cuda=False))
    d.dls_after.append(add)

def as_bgr(p): return PILImage.create(np.ascontiguousarray(np.asarray(PILImage.create(p))[...,::-1]))

@fault('channel_order', 'files', colour=True)
def cv2_reads(d, rng):
    "cv2.imread, and pretrained weights"
    d.pretrained,d.reader,d.arch = True,as_bgr,str(rng.choice(['test_resnet','mobilenetv2_100']))

@fault('channel_order', 'torch torch_transfer', colour=True)
def cv2_reads_validation(d, rng): d.vto_tensor = lambda a: to_float(a[...,::-1])

@fault('channel_order', 'torch_transfer', colour=True)
def cv2_reads_arrays(d, rng): d.to_tensor = lambda a: to_float(a[...,::-1])

@fault('channel_layout', 'torch arrays multi_torch', colour=True)
def reshape_for_permute(d, rng):
    if d.style=='arrays': d.to_tensor = lambda a: TensorImage(torch.from_numpy(a.reshape(3, *a.shape[:2])))
    else: d.to_tensor = lambda a: torch.from_numpy(a.reshape(3, *a.shape[:2])).float()/255

@fault('channel_layout', 'files regress', colour=True)
def reader_reshapes(d, rng):
    def read(p):
        a = np.array(Image.open(p).convert('RGB'))
        return TensorImage(torch.from_numpy(a).view(3, *a.shape[:2]))
    d.reader,d.item_tfms = read,[]

@fault('channel_layout', 'torch', colour=True)
def axes_of_train_swapped(d, rng):
    "permute(2,1,0) in one of the two data sets"
    d.to_tensor,d.vto_tensor = (lambda a: torch.from_numpy(a).permute(2,1,0).float()/255),to_float

@fault('value_range', 'torch multi_torch regress_torch')
def bytes_as_floats(d, rng):
    d.to_tensor = lambda a: to_float(a)*255
    d.tfm,d.vtfm = without(d.tfm, T.Normalize),without(d.vtfm, T.Normalize)

@fault('value_range', 'arrays')
def divided_before(d, rng): d.to_tensor = lambda a: as_image((a/255.).astype(np.float32))

@fault('value_range', 'files vit')
def divided_in_a_transform(d, rng): d.batch_tfms = [*d.batch_tfms, tfm(lambda x: x/255, 12)]

@fault('valid_augmented', 'torch torch_transfer')
def one_transform_for_both(d, rng): d.tfm = d.vtfm = [T.RandomResizedCrop(d.size, scale=(rng.uniform(.15, .4), 1), antialias=True), T.RandomHorizontalFlip(), T.ColorJitter(.4, .4), normalize(d)]

@fault('valid_augmented', 'files vit regress arrays')
def transform_of_any_split(d, rng):
    "A plain Transform has no split_idx, so it runs on validation too"
    s,b = rng.uniform(.1, .3),rng.uniform(.3, .7)
    def shake(x): return (x*(1+b*(2*torch.rand(len(x),1,1,1)-1))+s*torch.randn(len(x),1,1,1)).clamp(0, 1)
    d.batch_tfms = [*d.batch_tfms, tfm(shake, 30)]

@fault('valid_augmented', 'segment_torch')
def both_flip_and_crop(d, rng):
    def cut(x, y):
        h,w = x.shape[-2:]; k = int(h*.6); t,l = int(torch.randint(h-k+1, (1,))),int(torch.randint(w-k+1, (1,)))
        return F.interpolate(x[None,:,t:t+k,l:l+k], size=(h,w))[0],F.interpolate(y[None,None,t:t+k,l:l+k].float(), size=(h,w))[0,0].long()
    d.joint = d.vjoint = [*d.joint, cut]

@fault('mask_apart', 'segment')
def images_flip_alone(d, rng):
    "A transform typed for images leaves masks as they are"
    class Flip(Transform):
        split_idx = 0
        def encodes(self, x:PILImage): return x.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random()<.5 else x
    d.item_tfms = [*d.item_tfms, Flip()]

@fault('mask_apart', 'segment_torch')
def flips_drawn_apart(d, rng): d.joint,d.tfm = [],[*d.tfm, T.RandomHorizontalFlip(), T.RandomVerticalFlip(.3)]

@fault('mask_apart', 'segment segment_torch')
def images_cut_alone(d, rng):
    "A crop, resized back, of images alone"
    k = rng.uniform(.5, .75)
    def cut(x):
        h,w = x.shape[-2:]; t,l = int(h*(1-k)/2),int(w*(1-k)/2)
        return F.interpolate(x[None,:,t:h-t,l:w-l], size=(h,w), mode='bilinear')[0]
    def read(p):
        im = PILImage.create(p); w,h = im.size; l,t = int(w*(1-k)/2),int(h*(1-k)/2)
        return PILImage.create(np.asarray(im.crop((l, t, w-l, h-t)).resize((w,h))))
    if d.style=='torch': d.tfm,d.vtfm = [cut, *d.tfm],[cut, *d.vtfm]
    else: d.reader = read
    d.note(side=k)

@fault('mask_values', 'segment_torch')
def object_is_255(d, rng):
    "Masks of 0 and 255; 255 is what the loss leaves out"
    k = int(rng.integers(1, 3))
    d.recode = lambda y: np.where(y>=k, 255, 0)
    d.n_out,d.loss,d.metrics = 2,nn.CrossEntropyLoss(ignore_index=255),[]

@fault('mask_values', 'segment')
def object_is_255_in_files(d, rng):
    d.mask_reader = lambda p: PILMask.create(np.where(np.asarray(Image.open(p))>=1, 255, 0).astype(np.uint8))
    d.n_out,d.loss,d.metrics = 2,CrossEntropyLossFlat(axis=1, ignore_index=255),[]

def blurred(m, k): return np.asarray(Image.fromarray(m.astype(np.uint8)).resize((m.shape[1]//k, m.shape[0]//k), Image.Resampling.BILINEAR).resize((m.shape[1], m.shape[0]), Image.Resampling.BILINEAR))

@fault('mask_values', 'segment segment_torch')
def masks_interpolated(d, rng):
    "Masks resized like photographs"
    k = int(rng.integers(3, 5))
    d.mask_reader = lambda p: PILMask.create(blurred(np.asarray(Image.open(p)), k))
    d.recode = lambda y: np.stack([blurred(m, k) for m in y]).astype(np.int64)
    if d.style=='block': d.loss = CrossEntropyLossFlat(axis=1, **({'ignore_index': 11} if d.data.name=='camvid' else {}))

@fault('not_shuffled', 'torch torch_transfer')
def shuffle_false(d, rng): d.tr,d.train_kw['shuffle'] = by_class(d, d.tr),False

@fault('not_shuffled', 'files vit regress')
def dataloaders_shuffle_false(d, rng):
    order = by_class(d, np.arange(len(d.rows)))
    valid = np.isin(order, d.va)
    d.rows,d.labels = d.rows[order],[d.labels[i] for i in order]
    d.tr,d.va,d.dl_kw['shuffle'] = np.nonzero(~valid)[0],np.nonzero(valid)[0],False

@fault('rows_dropped', 'torch segment_torch')
def length_is_wrong(d, rng):
    "__len__ counts something else"
    k = int(rng.integers(2, 6))
    class Short(ArrayData):
        def __len__(self): return len(self.x)//k
    d.dataset = Short

@fault('rows_dropped', 'files arrays vit')
def n_left_from_debugging(d, rng):
    k = rng.uniform(.2, .6)
    def cut(dls): dls.train.n = int(len(dls.train_ds)*k)
    d.dls_after.append(cut)

@fault('rows_dropped', 'torch torch_transfer')
def drop_last_in_validation(d, rng):
    n = len(d.va)
    d.valid_kw = dict(batch_size=int(n*rng.uniform(.55, .7)), drop_last=True)

@fault('same_augmentation', 'torch torch_transfer')
def seed_in_getitem(d, rng):
    "Every epoch draws the same for an image"
    class Seeded(ArrayData):
        def __getitem__(self, i):
            torch.manual_seed(i)
            return super().__getitem__(i)
    d.dataset = Seeded
    d.tfm = [T.RandomResizedCrop(d.size, scale=(.5, 1), antialias=True), *d.tfm]

@fault('same_augmentation', 'torch')
def generator_copied_to_workers(d, rng):
    "A generator made in __init__ is the same in every worker, and every epoch"
    class Own(ArrayData):
        def __init__(self, *a, **kw):
            super().__init__(*a, **kw)
            self.rng = np.random.default_rng(42)
        def __getitem__(self, i):
            x,y = super().__getitem__(i)
            if self.tfms is not d.tfm: return x,y
            r,c = self.rng.integers(-6, 7, 2)
            return torch.roll(x, (int(r),int(c)), (1,2))*float(self.rng.uniform(.6, 1.4)),y
    d.dataset,d.train_kw['num_workers'] = Own,2

@fault('same_augmentation', 'files vit')
def seeded_transform(d, rng):
    "A generator seeded at every call draws the same for all"
    def shift(x):
        g = np.random.default_rng(42)
        r,c = g.integers(-6, 7, 2)
        return torch.roll(x, (int(r)+3,int(c)-3), (2,3))*float(g.uniform(.6, 1.4))
    d.batch_tfms = [tfm(shift, 20, 0), *[o for o in d.batch_tfms if isinstance(o, Normalize)]]

@fault('split_leak', 'files transfer torch regress')
def oversampled_before_the_split(d, rng):
    "Rows are repeated, then split at random"
    more = rng.choice(len(d.rows), int(len(d.rows)*rng.uniform(.4, 1.)))
    d.rows,d.labels = np.concatenate([d.rows, d.rows[more]]),d.labels+[d.labels[i] for i in more]
    d.tr,d.va = split(rng, len(d.rows))

@fault('split_leak', 'torch regress_torch')
def augmented_before_the_split(d, rng):
    "Mirrored and relit copies join the set, then all is split"
    more = rng.permutation(len(d.rows))[:int(len(d.rows)*rng.uniform(.5, 1.))]
    x = d.x[more]
    x = x[:,:,::-1] if rng.random()<.5 and d.kind=='single' else (x*rng.uniform(.85, .95)).astype(np.uint8)
    n = len(d.rows)
    d.data = replace(d.data, x=np.concatenate([d.x, x]), y=None, files=d.files+[d.files[i] for i in more])
    d.rows,d.labels = np.arange(n+len(more)),d.labels+[d.labels[i] for i in more]
    d.tr,d.va = split(rng, len(d.rows))

@fault('valid_is_train', 'torch torch_transfer segment_torch')
def validation_from_train(d, rng): d.va = np.sort(rng.choice(d.tr, int(len(d.tr)*rng.uniform(.2, 1)), replace=False))

@fault('valid_is_train', 'files arrays regress')
def splitter_keeps_all(d, rng):
    n,k = len(d.rows),rng.uniform(.2, .4)
    v = rng.permutation(n)[:int(n*k)].tolist()
    d.splitter = lambda o: (list(range(n)), v)

@fault('images_lost', 'files regress')
def black_when_unreadable(d, rng):
    "try: open, except: black"
    lost = {d.files[i] for i in rng.permutation(len(d.rows))[:int(len(d.rows)*rng.uniform(.5, 1))]}
    d.reader = lambda p: PILImage.create(np.zeros((d.size,d.size,3), np.uint8)) if p in lost else PILImage.create(p)
    d.note(share=len(lost)/len(d.rows))

@fault('images_lost', 'files')
def closure_keeps_the_last(d, rng):
    last = d.files[int(rng.integers(len(d.rows)))]
    d.reader = lambda p: PILImage.create(last)

@fault('images_lost', 'torch multi_torch')
def cast_to_bytes(d, rng):
    "(a/255).astype(uint8) is 0 nearly everywhere"
    d.to_tensor = lambda a: chw((a/255).astype(np.uint8)).float()

@fault('images_lost', 'torch arrays')
def array_half_filled(d, rng):
    "np.zeros was to be filled by a loop that ended early"
    x = d.data.x.copy()
    lost = rng.permutation(len(d.rows))[:int(len(d.rows)*rng.uniform(.5, .9))]
    x[d.rows[lost]] = 0
    d.data = replace(d.data, x=x)
    d.note(share=len(lost)/len(d.rows))

@fault('not_finite', 'torch torch_transfer')
def scaled_by_own_range(d, rng):
    "(x-min)/(max-min), and some images are black"
    x,k = d.data.x.copy(),rng.uniform(.05, .3)
    x[d.rows[rng.permutation(len(d.rows))[:max(2, int(len(d.rows)*k))]]] = 0
    d.data = replace(d.data, x=x)
    own = lambda t: (t-t.min())/(t.max()-t.min())
    d.tfm,d.vtfm = [own, *d.tfm],[own, *d.vtfm]
    d.note(share=k)

@fault('not_finite', 'regress regress_torch')
def holes_in_the_csv(d, rng):
    k = rng.uniform(.05, .2)
    for i in rng.permutation(len(d.rows))[:int(len(d.rows)*k)]: d.labels[i] = float('nan')
    d.note(share=k)

@fault('not_finite', 'arrays vit')
def logarithm_of_black(d, rng):
    x = d.data.x
    d.batch_tfms = [*d.batch_tfms, tfm(lambda x: (x-x.amin((1,2,3), keepdim=True)).log(), 40)]

class MixImages(Callback):
    "MixUp without the targets"
    run_valid = False
    def __init__(self, alpha=1.): self.alpha = alpha
    def before_batch(self):
        x = self.xb[0]
        p,l = torch.randperm(len(x)),torch.distributions.Beta(self.alpha, self.alpha).sample((len(x),1,1,1))
        self.learn.xb = (x*l+x[p]*(1-l),)

class PasteImages(Callback):
    "CutMix without the targets"
    run_valid = False
    def before_batch(self):
        x = self.xb[0].clone(); h,w = x.shape[-2:]; a,b = int(h*.8),int(w*.8)
        r,c = random.randint(0, h-a),random.randint(0, w-b)
        x[:,:,r:r+a,c:c+b] = x[torch.randperm(len(x))][:,:,r:r+a,c:c+b]
        self.learn.xb = (x,)

@fault('labels_unmixed', 'files torch vit')
def mixup_of_images_alone(d, rng): d.cbs.append(MixImages(rng.uniform(.6, 2.)))

@fault('labels_unmixed', 'files torch_transfer')
def cutmix_of_images_alone(d, rng): d.cbs.append(PasteImages())

@fault('labels_unmixed', 'torch')
def collate_mixes(d, rng):
    def collate(b):
        x,y = torch.utils.data.default_collate(b)
        return .5*(x+x.flip(0)),y
    d.train_kw['collate_fn'] = collate

@fault('augmentation_destroys', 'files vit')
def crops_of_nothing(d, rng): d.item_tfms = [Resize(d.size), RandomResizedCrop(d.size, min_scale=rng.uniform(.002, .006), max_scale=.01)]

@fault('augmentation_destroys', 'files vit')
def lighting_to_black(d, rng):
    c = float(rng.uniform(.001, .004))
    d.batch_tfms = [Brightness(p=1., draw=lambda x: (torch.rand(len(x))<.5).float()*(1-2*c)+c), *[o for o in d.batch_tfms if isinstance(o, Normalize)]]

@fault('augmentation_destroys', 'torch torch_transfer')
def erased(d, rng):
    d.tfm = [*d.tfm, T.RandomErasing(p=1., scale=(rng.uniform(.8, .9), .95), ratio=(.8, 1.2))]

@fault('augmentation_destroys', 'torch multi_torch')
def noise_of_bytes(d, rng):
    "Noise of 25 meant for bytes, on floats"
    s = rng.uniform(8, 30)
    d.tfm = [lambda x: x+s*torch.randn_like(x), *d.tfm]

@fault('class_missing', 'torch torch_transfer')
def last_quarter_of_a_sorted_list(d, rng):
    order = by_class(d, np.arange(len(d.rows)))
    k = int(len(order)*rng.uniform(.7, .8))
    d.tr,d.va = order[:k],order[k:]

@fault('class_missing', 'files arrays')
def split_of_a_sorted_list(d, rng):
    order = by_class(d, np.arange(len(d.rows)))
    d.rows,d.labels = d.rows[order],[d.labels[i] for i in order]
    k = int(len(order)*rng.uniform(.7, .8))
    d.splitter = lambda o: (list(range(k)), list(range(k, len(order))))

# --- What is scored

@fault('softmax_twice', 'files torch vit segment_torch transfer')
def softmax_in_the_model(d, rng): d.wraps.append(lambda m: nn.Sequential(m, nn.Softmax(1)))

@fault('softmax_twice', 'multi multi_torch')
def sigmoid_in_the_model(d, rng): d.wraps.append(lambda m: nn.Sequential(m, nn.Sigmoid()))

@fault('softmax_missing', 'files torch vit')
def nll_of_logits(d, rng): d.loss = nn.NLLLoss()

@fault('softmax_missing', 'segment_torch')
def nll_of_pixels(d, rng): d.loss = nn.NLLLoss(ignore_index=11)

@fault('softmax_missing', 'multi multi_torch')
def bce_of_logits(d, rng):
    def bce(p, y):
        p,y = p.clamp(1e-6, 1-1e-6).as_subclass(torch.Tensor),y.as_subclass(torch.Tensor)
        return -(y*p.log()+(1-y)*(1-p).log()).mean()
    d.loss = bce

@fault('wrong_loss', 'multi multi_torch')
def one_of_many_for_many_of_many(d, rng): d.loss = nn.CrossEntropyLoss()

@fault('wrong_loss', 'files torch')
def class_number_regressed(d, rng):
    d.n_out,d.loss,d.metrics = 1,(lambda p, y: F.mse_loss(p.squeeze(1).as_subclass(torch.Tensor), y.float().as_subclass(torch.Tensor))),[]

@fault('wrong_loss', 'torch arrays')
def error_of_class_numbers(d, rng):
    "Mean squared error of logits and the number of the class"
    d.loss = lambda p, y: ((p-y[:,None].float())**2).mean()

def minus(f): return lambda p, *y: -f(p, *y)

@fault('loss_sign', 'files torch vit')
def likelihood_for_loss(d, rng): d.loss = minus(F.cross_entropy)

@fault('loss_sign', 'multi multi_torch')
def likelihood_of_sets(d, rng): d.loss = minus(F.binary_cross_entropy_with_logits)

@fault('loss_sign', 'segment segment_torch')
def dice_for_its_complement(d, rng):
    def dice(p, y):
        p,y = p.as_subclass(torch.Tensor).softmax(1),y.as_subclass(torch.Tensor).long()
        t = F.one_hot(y, p.shape[1]).permute(0,3,1,2).float()
        return (2*(p*t).sum((0,2,3))/((p+t).sum((0,2,3))+1e-6)).mean()
    d.loss = dice

@fault('loss_sum', 'files torch vit')
def sum_of_a_batch(d, rng): d.loss = nn.CrossEntropyLoss(reduction='sum')

@fault('loss_sum', 'regress multi_torch segment_torch')
def sum_of_all(d, rng): d.loss = dict(regression=MSELossFlat(reduction='sum'), multi=nn.BCEWithLogitsLoss(reduction='sum'), segment=nn.CrossEntropyLoss(reduction='sum', ignore_index=11))[d.kind]

@fault('loss_broadcast', 'regress regress_torch')
def n_by_1_against_n(d, rng): d.loss = nn.MSELoss() if rng.random()<.6 else nn.L1Loss()

@fault('loss_broadcast', 'regress regress_torch')
def own_huber(d, rng): d.loss = lambda p, y: ((p-y)**2+.01).sqrt().mean()

@fault('output_count', 'files torch vit')
def imagenet_head_left(d, rng): d.n_out = 1000

@fault('output_count', 'segment segment_torch')
def voc_head_left(d, rng): d.n_out,d.metrics = d.c+int(rng.integers(9, 30)),[]

@fault('output_clipped', 'files torch vit')
def relu_after_the_head(d, rng): d.wraps.append(lambda m: nn.Sequential(m, nn.ReLU() if rng.random()<.6 else nn.Hardtanh(0, 1)))

@fault('output_clipped', 'regress regress_torch')
def relu_on_standardised(d, rng):
    y = np.array(d.labels, np.float32)
    d.labels = ((y-y.mean())/y.std()).tolist()
    d.wraps.append(lambda m: nn.Sequential(m, nn.ReLU()))

def hits(p, y): return (p.argmax(1)==y).float().sum()
def axis0(p, y): return (p.argmax(0)[:1]==y[:1]).float().mean()
def of_rounds(p, y): return (p.round()==y[:,None]).float().mean()
def swapped(p, y): return (y.float()-p.argmax(1).float()).clamp(0, 1).mean()

@fault('wrong_metric', 'files torch vit')
def own_accuracy(d, rng):
    d.metrics = [{'hits': hits, 'axis0': axis0, 'rounds': of_rounds, 'signed': swapped}[str(rng.choice(['hits','axis0','rounds','signed']))]]
    d.note(metric=d.metrics[0].__name__)

@fault('wrong_metric', 'multi multi_torch')
def logits_at_half_a_sigmoid(d, rng): d.metrics = [lambda p, y: ((p.sigmoid().sigmoid()>.5)==y.bool()).float().mean()]

@fault('wrong_metric', 'regress regress_torch')
def error_without_size(d, rng): d.metrics = [(lambda p, y: (p.view(-1)-y.view(-1)).mean()) if rng.random()<.5 else (lambda p, y: (p-y).abs().mean())]

@fault('class_ignored', 'files torch')
def weight_of_a_class_is_0(d, rng):
    w = torch.ones(d.c); w[int(rng.integers(d.c))] = 0
    d.loss = nn.CrossEntropyLoss(weight=w)

@fault('class_ignored', 'files vit segment_torch')
def ignore_index_is_a_class(d, rng):
    k = int(rng.integers(1 if d.kind=='segment' else 0, min(d.c, 3)))
    d.loss = nn.CrossEntropyLoss(ignore_index=k) if d.kind!='segment' or d.data.name=='scenes' else nn.CrossEntropyLoss(ignore_index=int(rng.choice([1,3,5])))
    if d.kind=='segment' and d.data.name!='scenes': d.n_out = 12

@fault('target_scale', 'regress regress_torch')
def in_other_units(d, rng):
    a,b = 10**rng.uniform(2.5, 4),10**rng.uniform(3, 4)
    d.labels = [float(o*a+b) for o in d.labels]
    d.note(scale=a, shift=b)

@fault('target_scale', 'regress_torch regress')
def train_standardised_alone(d, rng):
    y = np.array(d.labels, np.float32)*32
    m,s = y[d.tr].mean(),y[d.tr].std()
    y[d.tr] = (y[d.tr]-m)/s
    d.labels = y.tolist()

@fault('range_excludes', 'regress regress_torch')
def y_range_too_small(d, rng):
    "Targets in pixels, a range of shares; or half of a range"
    k = rng.random()
    if k<.5: d.labels,d.y_range = [float(o*32) for o in d.labels],(0, 1)
    elif k<.75: d.y_range = (0, float(rng.uniform(.3, .5)))
    else: d.y_range = (float(rng.uniform(.4, .6)), 1)

# --- What is inside

def body_and_head(m):
    "Parameters of all but the last layer, and of it"
    last = [o for o in m.modules() if isinstance(o, (nn.Linear,nn.Conv2d))][-1]
    head = list(last.parameters()); own = {id(p) for p in head}
    return [p for p in m.parameters() if id(p) not in own],head

@fault('frozen', 'folder')
def freeze_without_weights(d, rng): d.after.append(lambda l: l.freeze())

@fault('frozen', 'torch vit files')
def body_frozen_without_weights(d, rng):
    def freeze(m):
        for p in body_and_head(m)[0]: p.requires_grad_(False)
        return m
    d.wraps.append(freeze)

@fault('frozen', 'torch_transfer')
def head_frozen(d, rng):
    "requires_grad = False for all that is not the block one meant"
    def freeze(m):
        for p in body_and_head(m)[1]: p.requires_grad_(False)
        return m
    d.wraps.append(freeze)

def each_weight(m, f, bias=False):
    with torch.no_grad():
        for o in m.modules():
            if isinstance(o, (nn.Conv2d,nn.Linear)):
                f(o.weight)
                if bias and o.bias is not None: nn.init.zeros_(o.bias)
    return m

@fault('constant_init', 'files torch vit arrays')
def all_weights_alike(d, rng):
    c = float(rng.choice([0., .01, .1]))
    d.wraps.append(lambda m: each_weight(m, lambda w: nn.init.constant_(w, c), True))
    d.note(value=c)

@fault('oversized_init', 'torch regress_torch arrays')
def normal_with_std_1(d, rng):
    d.arch = 'plain'
    d.wraps.append(lambda m: each_weight(m, lambda w: nn.init.normal_(w, std=float(rng.uniform(.7, 1.5)))))

@fault('oversized_init', 'files vit')
def head_with_std_5(d, rng):
    s = float(rng.uniform(3, 10))
    def big(m):
        nn.init.normal_([o for o in m.modules() if isinstance(o, nn.Linear)][-1].weight, std=s)
        return m
    d.wraps.append(big)

@fault('dead_units', 'torch arrays multi_torch')
def bias_far_below_0(d, rng):
    b = float(rng.uniform(5, 20))
    def bias(m):
        with torch.no_grad():
            some = [o for o in m.modules() if isinstance(o, nn.BatchNorm2d if d.arch!='plain' else nn.Conv2d)]
            for o in some[1:3]: o.bias.fill_(-b)
        return m
    d.arch = str(rng.choice(['cnn','plain']))
    d.wraps.append(bias)

@fault('dead_units', 'files')
def norms_far_below_0(d, rng):
    b = float(rng.uniform(4, 10))
    def bias(m):
        with torch.no_grad():
            for o in [o for o in m.modules() if isinstance(o, nn.BatchNorm2d)][:2]: o.bias.fill_(-b)
        return m
    d.wraps.append(bias)

@fault('saturated_units', 'torch arrays regress_torch')
def tanh_of_large_sums(d, rng):
    act,s = (nn.Tanh,nn.Sigmoid)[int(rng.integers(2))],float(rng.uniform(1.5, 4))
    c_in = 1 if d.gray else 3
    d.model = lambda n: each_weight(cnn(n, c_in, bn=False, act=act), lambda w: nn.init.normal_(w, std=s))

@fault('dropout_high', 'folder transfer')
def ps_for_keep(d, rng):
    "The share to drop, taken for the share to keep"
    d.vision_kw['ps'] = float(rng.uniform(.95, .99))

@fault('dropout_high', 'torch arrays multi_torch')
def drop_95(d, rng):
    p,c_in = float(rng.uniform(.95, .99)),1 if d.gray else 3
    d.model = lambda n: cnn(n, c_in, drop=p)

@fault('dropout_high', 'vit')
def blocks_drop_most(d, rng):
    p = float(rng.uniform(.85, .95))
    d.model = lambda n: timm.models.VisionTransformer(img_size=d.size, patch_size=d.size//8, num_classes=n, embed_dim=96, depth=3, num_heads=4, pos_drop_rate=p, proj_drop_rate=p)

class Mixed(nn.Module):
    "Rows of a batch are mixed where axes should be exchanged"
    def __init__(self, n_out, c_in, how, side):
        super().__init__()
        self.body,self.how = nn.Sequential(conv(c_in, 16), conv(16, 32), conv(32, 32), nn.AdaptiveAvgPool2d(4)),how
        self.att,self.head = nn.MultiheadAttention(32, 4, batch_first=how!='attention'),nn.Linear(32, n_out)
    def forward(self, x):
        x = self.body(x)
        b,c = x.shape[:2]
        if self.how=='view': t = x.permute(1,2,3,0).reshape(b, -1, c)
        elif self.how=='order': t = x.flatten(2).permute(2,0,1).reshape(b, -1, c)
        else: t = x.flatten(2).transpose(1,2)
        t = t+self.att(t, t, t, need_weights=False)[0]
        return self.head(t.mean(1))

@fault('batch_mixed', 'torch arrays files')
def view_for_permute(d, rng):
    how = str(rng.choice(['view','order','attention']))
    d.model = lambda n: Mixed(n, 1 if d.gray else 3, how, d.size)
    d.note(how=how)

@fault('softmax_batch_axis', 'torch files segment_torch')
def log_softmax_of_axis_0(d, rng):
    d.wraps.append(lambda m: nn.Sequential(m, nn.LogSoftmax(0)))
    d.loss = nn.NLLLoss(ignore_index=11) if d.kind=='segment' else nn.NLLLoss()

class Pooled(nn.Module):
    "Attention pooling whose weights sum to 1 over the batch"
    def __init__(self, n_out, c_in):
        super().__init__()
        self.body,self.score,self.head = nn.Sequential(conv(c_in, 16), conv(16, 32), conv(32, 32)),nn.Linear(32, 1),nn.Linear(32, n_out)
    def forward(self, x):
        t = self.body(x).flatten(2).transpose(1,2)
        return self.head((t*F.softmax(self.score(t), 0)).sum(1))

@fault('softmax_batch_axis', 'torch arrays files')
def attention_over_the_batch(d, rng): d.model = lambda n: Pooled(n, 1 if d.gray else 3)

@fault('tiny_batch', 'torch arrays files')
def batches_of_one_or_two(d, rng):
    d.bs = int(rng.choice([1,2]))
    d.model = lambda n: cnn(n, 1 if d.gray else 3)
    k = 160
    d.tr,d.va = d.tr[:k],d.va[:40]
    if d.style=='torch': d.valid_kw = dict(batch_size=16)
    else: d.splitter = lambda o: (d.tr.tolist(), d.va.tolist())

class Ignores(nn.Module):
    "A variable written over: the network sees what is not the image"
    def __init__(self, m, how): super().__init__(); self.m,self.how = m,how
    def forward(self, x):
        x = torch.zeros_like(x) if self.how=='zeros' else torch.ones_like(x)*.5 if self.how=='const' else x*0.
        return self.m(x)

@fault('input_ignored', 'files torch regress_torch vit')
def variable_written_over(d, rng):
    how = str(rng.choice(['zeros','const','times']))
    d.wraps.append(lambda m: Ignores(m, how))

class AlwaysDrops(nn.Module):
    def __init__(self, n_out, c_in, p):
        super().__init__()
        self.body,self.head,self.p = cnn(64, c_in),nn.Linear(64, n_out),p
    def forward(self, x): return self.head(F.dropout(F.relu(self.body(x)), self.p))   # training=True by default

@fault('mode_stuck', 'torch arrays files')
def functional_dropout(d, rng):
    p = float(rng.uniform(.3, .6))
    d.model = lambda n: AlwaysDrops(n, 1 if d.gray else 3, p)

class NeverEval(nn.Sequential):
    def train(self, mode=True): return super().train(True)
class NeverTrain(nn.Sequential):
    def train(self, mode=True): return super().train(False)

@fault('mode_stuck', 'files torch')
def train_overridden(d, rng):
    cls = NeverEval if rng.random()<.5 else NeverTrain
    d.arch = 'test_resnet' if d.style=='block' else 'cnn'
    d.wraps.append(lambda m: cls(m).train())
    d.note(how=cls.__name__)

@fault('weights_not_finite', 'files torch vit')
def checkpoint_with_nan(d, rng):
    def spoil(m):
        with torch.no_grad():
            ws = [o for o in m.modules() if isinstance(o, (nn.Conv2d,nn.Linear))]
            w = ws[int(rng.integers(len(ws)))].weight.view(-1)
            w[:max(1, int(len(w)*rng.uniform(.01, .5)))] = float('nan') if rng.random()<.7 else float('inf')
        return m
    d.wraps.append(spoil)

@fault('weights_not_finite', 'files')
def statistics_with_nan(d, rng):
    def spoil(m):
        bns = [o for o in m.modules() if isinstance(o, nn.BatchNorm2d)]
        bns[int(rng.integers(len(bns)))].running_var.fill_(float('nan'))
        return m
    d.wraps.append(spoil)

# --- How it learns

def new_head(m, n):
    "`m` with its last linear layer drawn anew, as `m.fc = nn.Linear(...)` does"
    name,last = [(k,o) for k,o in m.named_modules() if isinstance(o, nn.Linear)][-1]
    at,_,k = name.rpartition('.')
    setattr(m.get_submodule(at), k, nn.Linear(last.in_features, n))

@fault('stale_optimizer', 'torch files folder vit')
def head_swapped_after(d, rng):
    def swap(l):
        l.create_opt()
        new_head(l.model, d.outputs)
    d.after.append(swap)

@fault('stale_optimizer', 'torch')
def optimizer_of_another_model(d, rng):
    "The model was made anew in a later cell"
    def other(l):
        l.create_opt()
        l.model = network(d, d.outputs)
    d.after.append(other)

@fault('not_in_optimizer', 'torch files vit')
def splitter_leaves_out(d, rng):
    k = int(rng.integers(2))
    d.splits = lambda m: [body_and_head(m)[k]]
    d.note(trained=('body','head')[k])

class Cut(nn.Module):
    "A body whose gradient is cut off"
    def __init__(self, n_out, c_in, how):
        super().__init__()
        self.body,self.head,self.how = cnn(64, c_in),nn.Sequential(nn.ReLU(), nn.Linear(64, n_out)),how
    def forward(self, x):
        if self.how=='detach': return self.head(self.body(x).detach())
        with torch.no_grad(): x = self.body(x)
        return self.head(x)

@fault('no_grad_cut', 'torch arrays files')
def body_under_no_grad(d, rng):
    how = str(rng.choice(['detach','no_grad']))
    d.model = lambda n: Cut(n, 1 if d.gray else 3, how)

class SkipsSteps(Callback):
    "Steps with a large gradient are skipped, and all are large"
    def before_step(self):
        if sum(p.grad.norm() for p in self.model.parameters() if p.grad is not None)>1e-8: raise CancelStepException

@fault('never_updated', 'files torch')
def steps_cancelled(d, rng): d.cbs.append(SkipsSteps())

@fault('never_updated', 'vit arrays torch')
def accumulates_for_ever(d, rng): d.cbs.append(GradientAccumulation(n_acc=10**6))

@fault('never_updated', 'files torch')
def rate_of_the_body_is_0(d, rng): d.splits,d.lr,d.opt = (lambda m: list(body_and_head(m))),[0., 1e-3],Adam

class KeepsGrads(Learner):
    "Its author wrote the step anew, and forgot zero_grad"
    def _do_grad_opt(self):
        self._with_events(self._backward, 'backward', CancelBackwardException)
        self._with_events(self._step, 'step', CancelStepException)

@fault('no_zero_grad', 'files torch')
def own_learner(d, rng):
    def cast(l): l.__class__ = KeepsGrads
    d.after.append(cast)

class Keeps(OptimWrapper):
    def zero_grad(self): pass

@fault('no_zero_grad', 'torch arrays')
def zero_grad_does_nothing(d, rng): d.opt = partial(Keeps, opt=torch.optim.SGD)

def told(d, rng, lr):
    "The rate stands in the Learner, or verify is told"
    if rng.random()<.5: d.lr = float(lr)
    else: d.told_lr = float(lr)
    d.note(lr=lr)

@fault('lr_high', 'files torch vit recipe')
def rate_too_high(d, rng):
    sgd = d.style=='torch' and rng.random()<.5
    if sgd: d.opt = partial(OptimWrapper, opt=torch.optim.SGD)
    told(d, rng, 10**rng.uniform(1, 2) if sgd else 10**rng.uniform(0, 1.5))

@fault('lr_low', 'files torch vit recipe')
def rate_too_low(d, rng): told(d, rng, 10**rng.uniform(-10, -8))

@fault('lr_negative', 'files torch vit')
def rate_below_0(d, rng):
    d.opt = Adam   # PyTorch's own refuse
    told(d, rng, -10**rng.uniform(-4, -2))

@fault('decay_high', 'files torch vit')
def decay_of_10(d, rng):
    d.wd = float(10**rng.uniform(1, 2))
    if d.style=='torch': d.opt = partial(OptimWrapper, opt=torch.optim.AdamW)
    d.note(wd=d.wd)

@fault('gradient_clipped', 'files torch')
def clipped_to_nothing(d, rng):
    d.opt = SGD if d.style!='torch' else partial(OptimWrapper, opt=torch.optim.SGD)
    d.cbs.append(GradientClip(max_norm=float(10**rng.uniform(-7, -5))))

# --- Cases

SLUGS = list(dict.fromkeys(f.slug for f in FAULTS))
CASES = [(f,p) for f in FAULTS for p in f.pipes]

def faulty(f, pipe, store, seed):
    "The broken draft of a case"
    rng = np.random.default_rng([seed, *f.name.encode(), *pipe.encode()])
    d = draft(pipe, store, int(rng.integers(1<<30)), colour=f.colour)
    if f.name=='logarithm_of_black': d = draft(pipe, store, int(rng.integers(1<<30)), data='digits')
    f.make(d, rng)
    return d
