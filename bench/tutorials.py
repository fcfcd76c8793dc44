"""`verify` on pipelines written as fastai's tutorials write them: no gate may fail.

    python bench/tutorials.py --data DIR [--weights FILE] [--quick] [--only NAME...] [--out tutorials.jsonl]

DIR holds the folders trashnet (photos by class), camvid (street scenes with masks), bccd (blood cells with boxes) and elpv_solar (a csv of numbers). Each pipeline is one function below, as a reader of the tutorials would write it; the state of its Learner is hashed before and after, and training on must give the same numbers as without `verify`. One JSON line a pipeline.
"""
import argparse, hashlib, json, os, time, warnings
from pathlib import Path
os.environ.update(dict.fromkeys(('OMP_NUM_THREADS','MKL_NUM_THREADS'), os.environ.get('OMP_NUM_THREADS', '2')) | dict(CV_RECIPE_OFFLINE='1'))
warnings.simplefilter('ignore')

import pandas as pd, timm, torch
import xml.etree.ElementTree as ET
from fastai.vision.all import *

import cv_recipe
from cv_recipe.aside import state_hash
from cv_recipe.model import create_model
from cv_recipe.verify import cause, verify

def pets(d, w):
    "Intro tutorial: file names to labels, Resize, aug_transforms, a frozen body"
    files = get_image_files(d/'trashnet')
    def label_func(name): return re.match(r'([a-z]+)\d+', name)[1]
    dls = ImageDataLoaders.from_name_func(d, files, label_func, valid_pct=.2, seed=42, item_tfms=Resize(128), batch_tfms=aug_transforms(size=96), bs=32, num_workers=0)
    return vision_learner(dls, resnet18, metrics=error_rate, pretrained=False)

def multi_label(d, w):
    "Multi-label from a data frame: accuracy_multi, BCE"
    def kinds(p): return sorted({o.text for o in ET.parse(p).iter('name')})
    rows = [(p.as_posix(), ' '.join(kinds(x))) for p in get_image_files(d/'bccd') if (x := next(iter(d.glob(f'bccd/**/{p.stem}.xml')), None))]
    df = pd.DataFrame(rows, columns=['fname','labels']).assign(is_valid=[i%5==0 for i in range(len(rows))])
    block = DataBlock((ImageBlock, MultiCategoryBlock), get_x=ColReader('fname'), get_y=ColReader('labels', label_delim=' '), splitter=ColSplitter(), item_tfms=Resize(128), batch_tfms=aug_transforms(size=96))
    return vision_learner(block.dataloaders(df, bs=16, num_workers=0), resnet18, metrics=partial(accuracy_multi, thresh=.5), pretrained=False)

def segmentation(d, w):
    "camvid: masks by file name, unet_learner"
    names = 'sky building pole road pavement tree sign fence car pedestrian bicyclist void'.split()
    files = get_image_files(d/'camvid'/'train')+get_image_files(d/'camvid'/'val')
    def mask(f): return d/'camvid'/f'{f.parent.name}annot'/f.name
    block = DataBlock((ImageBlock, MaskBlock(names)), get_items=lambda _: files, get_y=mask , splitter=FuncSplitter(lambda f: f.parent.name=='val'), item_tfms=Resize((90,120), method='squish'), batch_tfms=aug_transforms(size=(90,120)))
    def acc_camvid(inp, targ):
        targ = targ.squeeze(1); m = targ!=11
        return (inp.argmax(dim=1)[m]==targ[m]).float().mean()
    return unet_learner(block.dataloaders(d, bs=4, num_workers=0), resnet18, metrics=acc_camvid, pretrained=False)

def regression(d, w):
    "A number an image, with y_range"
    df = pd.read_csv(next((d/'elpv_solar').glob('*.csv')))
    dls = ImageDataLoaders.from_df(df, path=d/'elpv_solar', fn_col='path', label_col='prob', valid_pct=.2, seed=1, y_block=RegressionBlock(), item_tfms=Resize(64), bs=32, num_workers=0)
    return vision_learner(dls, resnet18, y_range=(-.1,1.1), metrics=mae, pretrained=False)

def _trash(d, size=64, bs=32, **kwargs): return ImageDataLoaders.from_folder(d/'trashnet', valid_pct=.2, seed=1, item_tfms=Resize(size), bs=bs, num_workers=0, **kwargs)

def timm_vit(d, w):
    "A ViT by timm, unfrozen, label smoothing"
    dls = _trash(d, batch_tfms=aug_transforms(size=64))
    return Learner(dls, timm.create_model('vit_tiny_patch16_224', img_size=64, num_classes=dls.c), loss_func=LabelSmoothingCrossEntropyFlat(), metrics=accuracy, lr=3e-4)

def mixup(d, w): return Learner(_trash(d), timm.create_model('resnet10t', num_classes=6), loss_func=CrossEntropyLossFlat(), metrics=accuracy, cbs=MixUp())

def accumulation(d, w): return Learner(_trash(d, bs=8), timm.create_model('resnet10t', num_classes=6), loss_func=CrossEntropyLossFlat(), metrics=accuracy, cbs=[GradientAccumulation(32), GradientClip(1.)])

def half(d, w):
    "to_fp16; without a GPU it runs, and changes nothing"
    return vision_learner(_trash(d), resnet18, metrics=accuracy, pretrained=False).to_fp16()

def frozen(d, w):
    "Frozen transfer of real weights, normalised as they want"
    from cv_recipe.model import resolve_weights
    weights = resolve_weights(None, w) if w else None
    dls = _trash(d, batch_tfms=[*aug_transforms(size=64), Normalize.from_stats(*(weights.stats() if weights else imagenet_stats))])
    m = create_model(weights, 6) if weights else timm.create_model('mobilenetv2_100', num_classes=6)
    learn = Learner(dls, m, loss_func=CrossEntropyLossFlat(), metrics=accuracy, splitter=lambda m: [[p for n,p in m.named_parameters() if 'classifier' not in n], list(m.classifier.parameters())])
    if weights: learn.freeze()
    return learn

def plain_pytorch(d, w):
    "torchvision-like Dataset, ToTensor alone, a small network"
    from sklearn.datasets import load_digits
    x,y = load_digits(return_X_y=True)
    x,y = torch.as_tensor(x).float().view(-1, 1, 8, 8)/16,torch.as_tensor(y)
    ii = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    def dl(ii, shuffle): return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[ii], y[ii]), batch_size=64, shuffle=shuffle)
    net = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return Learner(DataLoaders(dl(ii[300:], True), dl(ii[:300], False)), net, loss_func=nn.CrossEntropyLoss())

PIPES = dict(pets=pets, multi_label=multi_label, segmentation=segmentation, regression=regression, timm_vit=timm_vit, mixup=mixup, accumulation=accumulation, half=half, frozen=frozen, plain_pytorch=plain_pytorch)

def numbers(learn):
    "Weights, buffers, the optimizer's averages, losses and the generator: all that training on depends on, and nothing that names an object"
    h = hashlib.sha256()
    kept = [v for *_,state,_ in learn.opt.all_params() for v in state.values()]
    for o in (*learn.model.state_dict().values(), *kept, *learn.recorder.losses, torch.get_rng_state()):
        h.update(o.detach().cpu().contiguous().numpy().tobytes() if isinstance(o, torch.Tensor) else repr(o).encode())
    return h.hexdigest()

def trained_on(make, a, ask):
    "The state after two short fits, with or without `verify` between them"
    set_seed(7); learn = make(a.data, a.weights)
    for dl in learn.dls:
        if hasattr(dl, 'rng'): dl.rng.seed(5)
    few = ShortEpochCallback(pct=min(1., 3/len(learn.dls.train)), short_valid=True)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=few)
        found = verify(learn, quick=a.quick) if ask else None
        learn.fit(1, cbs=few)
    return numbers(learn),found

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--data', type=Path, required=True); ap.add_argument('--weights', type=Path); ap.add_argument('--quick', action='store_true')
    ap.add_argument('--only', nargs='*', default=list(PIPES)); ap.add_argument('--out', type=Path, default=Path('tutorials.jsonl'))
    a = ap.parse_args()
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    for name in a.only:
        set_seed(0); learn = PIPES[name](a.data, a.weights)
        before,t = state_hash(learn),time.time()
        found = verify(learn, quick=a.quick)
        secs,same = time.time()-t,state_hash(learn)==before
        (with_,_),(without,_) = (trained_on(PIPES[name], a, o) for o in (True, False))
        row = dict(pipeline=name, quick=a.quick, seconds=round(secs, 1), cause=cause(found), fails=[(o.name, o.fault, str(o.value)) for o in found.only('fail')], warns=[(o.name, o.fault, str(o.value)) for o in found.only('warn')],
            skips=[(o.name, o.implication) for o in found.only('skip')], passes=len(found.only('pass')), restored=same, trains_on_alike=with_==without, version=cv_recipe.__version__, torch=torch.__version__)
        with open(a.out, 'a') as f: f.write(json.dumps(row)+'\n')
        print(name, f'{secs:.1f} s', 'fails', row['fails'], 'warns', row['warns'], f"{row['passes']} pass", 'restored', same, 'trains on alike', with_==without, flush=True)

if __name__=='__main__': main()
