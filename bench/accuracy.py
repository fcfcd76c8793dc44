"""The best model that three minutes can buy: `cv-recipe run` beside fastai's `fine_tune`, a plain recipe of timm's and a frozen network.

    python bench/accuracy.py run --data DIR --weights FILE [--minutes 3] [--sets cifar10 scratch trashnet elpv] [--arms NAME...] [--part k/n] [--out accuracy.jsonl]
    python bench/accuracy.py table accuracy.jsonl...

DIR holds `cifar10/train` and `cifar10/test` (a folder a class), `trashnet` (likewise) and `elpv_solar/labels.csv` (path, prob). Weights are mobilenetv2_100's.

- cifar10: 2,000 images, 200 a class, drawn by the seed; a fifth of them for validation; scored on all 10,000 test images; 3 seeds. `scratch` is the same from random weights
- trashnet: five splits, a fifth each for the test, so that every photo is scored once; of the others a fifth for validation
- elpv: prob > .5 or not, three splits of a third each

All arms get the same rows for training and validation, the same network, weights and size, one thread and the same minutes on the clock; two may run side by side (`--part`), which is equally unfair to all. Test images are predicted after the clock has stopped, by none of them before.

- ours: `cv-recipe run CSV --minutes M --size S --weights FILE --test 0`, nothing else said (its own test rows would be taken from those that the others train on)
- fastai: `vision_learner` with `aug_transforms()`, `fine_tune` for as many epochs as fill the minutes; how long an epoch takes was measured before the clock started. From scratch: `fit_one_cycle` at 3e-3
- timm: AdamW, weight decay .05, rate 5e-4 with warm-up and cosine, random resized crops from .35 and flips, RandAugment, label smoothing .1; images decoded beforehand; epochs as above; where the time was missed by more than 15 %, both are trained once more with as many epochs as fill it
- frozen: pooled features, logistic regression, its strength chosen on the validation rows

One JSON line a case and arm, with what was right as a row of digits, commit and versions. Resumable.
"""
import argparse, json, os, subprocess, sys, tempfile, time, warnings
from pathlib import Path
os.environ.update({k: '1' for k in ('OMP_NUM_THREADS','MKL_NUM_THREADS')} | dict(CV_RECIPE_OFFLINE='1', MPLBACKEND='agg'))
warnings.simplefilter('ignore')

import numpy as np
import pandas as pd

ARCH = 'mobilenetv2_100'
CASES = dict(cifar10=(3, 64), scratch=(3, 64), trashnet=(5, 128), elpv=(3, 128))   # how many, and the size
ARMS = ('ours','fastai','timm','frozen')

# --- Rows

def folder(root): return pd.DataFrame([dict(path=p.as_posix(), label=p.parent.name) for p in sorted(root.glob('*/*')) if p.suffix.lower() in ('.jpg','.jpeg','.png')])

def dealt(df, k, i, seed=0):
    "The i-th of k stratified folds is the test, a fifth of the others validation"
    u = df.groupby('label').path.transform(lambda s: np.random.default_rng([seed, len(s)]).permutation(len(s)))
    df = df.assign(split=np.where(u%k==i, 'test', 'train'))
    return validated(df, seed)

def validated(df, seed):
    rest = df.index[df.split=='train']
    v = df.loc[rest].groupby('label').path.transform(lambda s: np.random.default_rng([seed, len(s), 1]).permutation(len(s)))
    df.loc[rest[(v%5==0).to_numpy()], 'split'] = 'valid'
    return df

def rows(data, name, i):
    if name in ('cifar10','scratch'):
        train = folder(data/'cifar10'/'train').groupby('label').sample(200, random_state=i).assign(split='train')
        return pd.concat([validated(train.reset_index(drop=True), i), folder(data/'cifar10'/'test').assign(split='test')], ignore_index=True)
    if name=='trashnet': return dealt(folder(data/'trashnet'), 5, i)
    t = pd.read_csv(data/'elpv_solar'/'labels.csv')
    return dealt(pd.DataFrame(dict(path=[(data/'elpv_solar'/p).as_posix() for p in t.path], label=np.where(t.prob>.5, 'broken', 'sound'))), 3, i)

# --- Arms: each is given rows, size, weights ('' for none), seconds, seed; and returns predicted labels of the test rows, seconds, and what else is to be said

def ours(df, size, weights, seconds, seed, tmp, epochs=None):
    df[df.split!='test'].assign(path=df.path).to_csv(tmp/'rows.csv', index=False)
    began = time.monotonic()
    how = ['--weights', str(weights)] if weights else ['--weights', 'random', '--arch', ARCH]
    out = subprocess.run([sys.executable, '-c', 'from cv_recipe.cli import main; raise SystemExit(main())', 'run', str(tmp/'rows.csv'), '--out', str(tmp/'out'), '--minutes', f'{seconds/60:g}', '--size', str(size), '--test', '0', '--threads', '1', '--device', 'cpu', '--seed', str(seed), *how],
        env=os.environ | dict(CV_RECIPE_CACHE=str(tmp/'cache')), capture_output=True, text=True)
    took = time.monotonic()-began
    if out.returncode: raise SystemExit(out.stdout[-2000:]+out.stderr[-2000:])
    from cv_recipe.export import load
    s = json.loads((tmp/'out'/'summary.json').read_text())
    said = load(tmp/'out'/'model', 'cpu').predict(list(df.path[df.split=='test'])).label.to_numpy()
    return said,took,dict(how=s['model']['how'], valid=s['valid'])

def filled(epoch_seconds, seconds): return max(1, int(seconds/epoch_seconds))

def fastai(df, size, weights, seconds, seed, tmp, epochs=None):
    import timm, torch
    from fastai.callback.schedule import fine_tune
    from fastai.vision.all import CrossEntropyLossFlat, ImageDataLoaders, Normalize, Resize, accuracy, aug_transforms, imagenet_stats, set_seed, vision_learner
    from safetensors.torch import load_file
    torch.set_num_threads(1)
    known = df[df.split!='test'].assign(is_valid=lambda d: d.split=='valid')
    def made():
        set_seed(seed)
        dls = ImageDataLoaders.from_df(known, path='/', fn_col='path', label_col='label', valid_col='is_valid', item_tfms=Resize(size), batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)], bs=64, num_workers=0)
        learn = vision_learner(dls, ARCH, pretrained=False, metrics=accuracy, normalize=False, path=tmp)
        if weights: learn.model[0].model.load_state_dict({k: v for k,v in load_file(weights).items() if not k.startswith('classifier')}, strict=False)
        return learn
    learn = made()
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-5); began = time.monotonic(); learn.fit(1, 1e-5); each = time.monotonic()-began   # all layers: what an epoch of most of fine_tune costs
    learn,n = made(),epochs or filled(each, seconds)
    began = time.monotonic()
    with learn.no_bar(), learn.no_logging(): learn.fine_tune(max(1, n-1)) if weights else learn.fit_one_cycle(n, 3e-3)
    took = time.monotonic()-began
    with learn.no_bar(): preds = learn.get_preds(dl=learn.dls.test_dl(df[df.split=='test']))[0]
    return np.array(learn.dls.vocab)[preds.argmax(1).numpy()],took,dict(epochs=n)

def timm(df, size, weights, seconds, seed, tmp, epochs=None):
    import timm, torch
    from PIL import Image
    from safetensors.torch import load_file
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
    torch.set_num_threads(1); torch.manual_seed(seed); import random; random.seed(seed); np.random.seed(seed)
    classes = sorted(set(df.label))
    def opened(p): im = Image.open(p).convert('RGB'); f = 1.15*size/min(im.size); return im.resize((round(im.width*f), round(im.height*f)), Image.BICUBIC) if f<1 else im
    part = {s: df[df.split==s] for s in ('train','valid','test')}
    images = [opened(p) for p in part['train'].path]; y = torch.tensor([classes.index(l) for l in part['train'].label])
    stats = dict(mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD)
    change = create_transform(size, is_training=True, scale=(.35,1), hflip=.5, color_jitter=None, auto_augment='rand-m7-mstd0.5', re_prob=0., **stats)
    plain = create_transform(size, is_training=False, crop_pct=1., **stats)
    def made():
        net = timm.create_model(ARCH, num_classes=len(classes))
        if weights: net.load_state_dict({k: v for k,v in load_file(weights).items() if not k.startswith('classifier')}, strict=False)
        return net,torch.optim.AdamW(net.parameters(), 5e-4 if weights else 2e-3, weight_decay=.05)
    def epoch(net, opt, sched=None):
        net.train()
        for idx in torch.randperm(len(y)).split(64):
            if len(idx)<2: continue
            loss = torch.nn.functional.cross_entropy(net(torch.stack([change(images[i]) for i in idx])), y[idx], label_smoothing=.1)
            opt.zero_grad(); loss.backward(); opt.step()
            if sched: sched.step()
    net,opt = made(); began = time.monotonic(); epoch(net, opt); each = time.monotonic()-began
    net,opt = made(); n = epochs or filled(each, seconds); steps = n*-(-len(y)//64); warm = max(1, steps//10)
    sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda i: (i+1)/warm if i<warm else .5*(1+np.cos(np.pi*min(1, (i-warm)/max(1, steps-warm)))))
    began = time.monotonic()
    for _ in range(n): epoch(net, opt, sched)
    took = time.monotonic()-began
    net.eval(); test = list(part['test'].path)
    with torch.inference_mode(): preds = torch.cat([net(torch.stack([plain(Image.open(p).convert('RGB')) for p in test[i:i+64]])).argmax(1) for i in range(0, len(test), 64)])
    return np.array(classes)[preds.numpy()],took,dict(epochs=n)

def frozen(df, size, weights, seconds, seed, tmp, epochs=None):
    import timm, torch
    from PIL import Image
    from safetensors.torch import load_file
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
    torch.set_num_threads(1); torch.manual_seed(seed)
    net = timm.create_model(ARCH, num_classes=0)
    if weights: net.load_state_dict({k: v for k,v in load_file(weights).items() if not k.startswith('classifier')}, strict=False)
    plain = create_transform(size, is_training=False, crop_pct=1., mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD)
    net.eval()
    def seen(paths):
        with torch.inference_mode(): return torch.cat([net(torch.stack([plain(Image.open(p).convert('RGB')) for p in paths[i:i+64]])) for i in range(0, len(paths), 64)]).numpy()
    began = time.monotonic()
    x = {s: seen(list(df.path[df.split==s])) for s in ('train','valid')}; y = {s: df.label[df.split==s].to_numpy() for s in ('train','valid')}
    fitted = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(x['train'], y['train']) for c in (.001,.01,.1,1.)]
    best = max(fitted, key=lambda m: m.score(x['valid'], y['valid']))
    took = time.monotonic()-began
    return best.predict(seen(list(df.path[df.split=='test']))),took,dict(C=best[-1].C)

# --- Running and telling

def run(a):
    from cv_recipe.runs import versions
    have = [json.loads(l) for l in open(a.out)] if a.out.exists() else []
    done,(k,n) = {(r['set'], r['i'], r['arm']) for r in have},map(int, a.part.split('/'))
    cases = [(s, i, arm) for i in range(max(CASES[s][0] for s in a.sets)) for s in a.sets if i<CASES[s][0] for arm in a.arms]
    for j,(name,i,arm) in enumerate(cases):
        if j%n!=k-1 or (name, i, arm) in done: continue
        df,size = rows(a.data, name, i),CASES[name][1]
        with tempfile.TemporaryDirectory() as tmp:
            args = (df, size, '' if name=='scratch' else a.weights, 60*a.minutes, i, Path(tmp))
            said,took,more = globals()[arm](*args)
            e = more.get('epochs')
            if e and not .85<=took/(60*a.minutes)<=1.15 and (better := max(1, round(e*60*a.minutes/took)))!=e: said,took,more = globals()[arm](*args, better)   # an epoch took another time than was measured: once more, as long as it should
        right = said==df.label[df.split=='test'].to_numpy()
        row = dict(set=name, i=i, arm=arm, accuracy=round(float(right.mean()), 4), seconds=round(took, 1), n=len(right), minutes=a.minutes, size=size, train=int((df.split=='train').sum()), **more, right=''.join(map(str, right.astype(int))), versions=versions())
        with open(a.out, 'a') as f: f.write(json.dumps(row)+'\n')
        print(name, i, arm, row['accuracy'], f"{took:.0f} s", more, flush=True)

def table(a):
    "Means, ranges over rows and cases, and ours against each rival on the same rows"
    df = pd.DataFrame([json.loads(l) for f in a.files for l in open(f)]).drop_duplicates(['set','i','arm'], keep='last')
    hits = lambda r: np.array(list(r), int)
    rng,lines = np.random.default_rng(0),[]
    for name,g in df.groupby('set', sort=False):
        by = {arm: {r.i: hits(r.right) for r in h.itertuples()} for arm,h in g.groupby('arm')}
        for arm,h in by.items():
            both = sorted(set(h) & set(by.get('ours', {})))
            line = dict(set=name, arm=arm, n=len(h), accuracy=np.mean([x.mean() for x in h.values()]), spread=np.std([x.mean() for x in h.values()], ddof=1) if len(h)>1 else np.nan, seconds=g[g.arm==arm].seconds.mean())
            if arm!='ours' and both:
                d = [by['ours'][i]-h[i] for i in both]
                means = [np.mean([rng.choice(d[j], len(d[j])).mean() for j in rng.integers(len(d), size=len(d))]) for _ in range(1000)]   # seeds or splits, and rows
                line |= dict(ours=np.mean([x.mean() for x in d]), lo=np.quantile(means, .025), hi=np.quantile(means, .975))
            lines.append(line)
    t = pd.DataFrame(lines)
    for c in ('accuracy','spread','ours','lo','hi'): t[c] = (100*t[c]).round(1) if c in t else np.nan
    print(t.assign(seconds=t.seconds.round(0)).to_string(index=False))

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest='do', required=True)
    r = sub.add_parser('run'); r.add_argument('--data', type=lambda p: Path(p).resolve(), required=True); r.add_argument('--weights', type=lambda p: Path(p).resolve(), required=True); r.add_argument('--minutes', type=float, default=3)
    r.add_argument('--sets', nargs='*', default=list(CASES), choices=list(CASES)); r.add_argument('--arms', nargs='*', default=list(ARMS), choices=ARMS); r.add_argument('--part', default='1/1'); r.add_argument('--out', type=Path, default=Path('accuracy.jsonl'))
    t = sub.add_parser('table'); t.add_argument('files', nargs='+', type=Path)
    a = ap.parse_args()
    dict(run=run, table=table)[a.do](a)

if __name__=='__main__': main()
