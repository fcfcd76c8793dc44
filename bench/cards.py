"""What each card brings: every trick and what it is compared with, trained from the same seeds and scored on the same images.

    python bench/cards.py run --what digits|cifar10 [--data DIR --weights FILE] [--seeds 5] [--only NAME...] [--part k/n] [--out cards.jsonl]
    python bench/cards.py table cards.jsonl... [--write cv_recipe/measured.csv]

`digits` trains a resnet10t from scratch on 300 digits, drawn by the seed, and scores the other 1,497. `cifar10` wants DIR/cifar10 (folders train and test of a class each) and trains 2,000 images, 200 a class, drawn by the seed, none of which near_duplicates.csv lists; all 10,000 test images are scored. Cards for rare classes are trained with every second class at a tenth, and judged by balanced accuracy.

Base: one cycle, no augmentation, no decay; a card that is a step from something else is compared with that. Scores are of the shipped network on images it has not seen, by as many views as its config asks for; time is the process's CPU time from the first training step to the last. One JSON line a training run, with commit, versions and a hash of the code; started again, only what is not there is done (`--any-commit` takes lines of other code too). A part k/n trains every n-th run.
"""
import argparse, hashlib, json, os, subprocess, sys, tempfile, time, warnings
from functools import lru_cache
from pathlib import Path
os.environ.update({k: os.environ.get('OMP_NUM_THREADS', '1') for k in ('OMP_NUM_THREADS','MKL_NUM_THREADS')} | dict(CV_RECIPE_OFFLINE='1'))
warnings.simplefilter('ignore')

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent.parent
ROOMS = 'parts task model loader pipe heads losses mix augment grow schedule rates regular precision average tta cards'.split()

def code():
    "A hash of the code that a result depends on"
    return hashlib.sha256(b''.join((HERE/'cv_recipe'/f'{m}.py').read_bytes() for m in ROOMS)).hexdigest()[:12]

def commit(): return subprocess.run(['git','-C',HERE,'rev-parse','--short','HEAD'], capture_output=True, text=True).stdout.strip()

# --- Data: a source with train and valid rows, and one whose rows are scored

def digits(data, seed, rare):
    from cv_recipe.data import Source
    src = Source.digits()
    df = src.df.assign(path=[p.as_posix() for p in src.paths], split='')
    order = np.random.default_rng(seed).permutation(len(df))
    df.loc[df.index[order], 'split'] = ['train']*300+['test']*(len(df)-300)
    return made(df, seed, rare)

def cifar10(data, seed, rare):
    root = data/'cifar10'
    files = pd.DataFrame([dict(path=p.as_posix(), label=p.parent.name, split=p.parts[-3], key=p.relative_to(root).as_posix()) for p in sorted(root.glob('*/*/*.jpg'))])
    near = pd.read_csv(root/'near_duplicates.csv')
    listed = {str(v) for c in near.columns if near[c].dtype.kind not in 'if' for v in near[c]}
    train = files[(files.split=='train') & ~files.key.isin(listed)]
    train = train.groupby('label', group_keys=False).sample(200, random_state=seed)
    return made(pd.concat([train, files[files.split=='test']], ignore_index=True), seed, rare)

def made(df, seed, rare):
    "(source of train and a few valid rows, source whose valid rows are the test's)"
    from cv_recipe.data import Source
    classes = sorted(df.label.unique())
    if rare:
        few = df[(df.split=='train') & df.label.isin(classes[::2])]
        df = df.drop(few.groupby('label').sample(frac=.9, random_state=seed).index)
    train = df[df.split=='train']
    shown = df[df.split=='test'].groupby('label', group_keys=False).sample(10, random_state=0).assign(split='valid')   # watched, and nothing is decided by it
    def source(d): return Source.from_df(d[['path','label','split']], folder='/', kind='single', test=0.)
    return source(pd.concat([train, shown])), source(pd.concat([train.groupby('label').head(1), df[df.split=='test'].assign(split='valid')]))

DATA = dict(digits=(digits, dict(arch='resnet10t', weights='random', channels=1, size=32, bs=32, epochs=10)),
    cifar10=(cifar10, dict(size=64, bs=64, epochs=4)))

@lru_cache(4)
def sources(what, data, seed, rare): return DATA[what][0](data, seed, rare)

# --- A run

class Clock:
    "CPU seconds from the first step to the last, without those before"
    first = last = None
    def __call__(self, share, left):
        self.last = time.process_time()
        if self.first is None: self.first = self.last
    @property
    def seconds(self): return self.last-self.first if self.first is not None else 0.

def score(run, test, task, folder):
    "Metrics of a run's network on images of `test`"
    import torch
    from cv_recipe.pipe import Config, asked_by, get_dls, run_model
    c = Config.from_dict(run.config | dict(weights='random'))
    net,w = run_model(run, task)
    dls = get_dls(test, c.but(tta='none', balance=0., aug='none', ramp=0., erasing=0.), w, 'cpu', folder, task)
    ask,out,y = asked_by(net, c),[],[]
    with torch.no_grad():
        for xb,yb in dls.valid: out.append(ask(xb).float().as_subclass(torch.Tensor)); y.append(yb.as_subclass(torch.Tensor))
    return task.scores(task.activation(torch.cat(out).numpy()), torch.cat(y).numpy())

def train(a, what, config, seed, rare):
    from cv_recipe.pipe import fit
    from cv_recipe.task import task_for
    src,test = sources(what, a.data, seed, rare)
    task,clock = task_for(src),Clock()
    with tempfile.TemporaryDirectory() as d:
        run = fit(src, config, d, seed=seed, threads=1, device='cpu', tick=clock, task=task, folder=a.cache, board=False)
        s = score(run, test, task, a.cache)
        return dict(accuracy=round(s['accuracy'], 5), balanced_accuracy=round(s['balanced_accuracy'], 5), log_loss=round(s['log_loss'], 4), rows=len(test.valid), steps=run.metrics['steps'], seconds=round(clock.seconds, 2))

# --- What there is to do

def plan(a):
    "Every run, once: (config, its changes from the default as text, whether classes are rare)"
    from cv_recipe.cards import CARDS
    from cv_recipe.pipe import Config
    base = Config(schedule='one_cycle', **DATA[a.what][1] | (dict(weights=str(a.weights)) if a.what=='cifar10' else {}))
    seen,res = set(),[]
    for c in CARDS.values():
        if a.only and c.name not in a.only: continue
        for config in sides(a.what, base, c) or ():
            if (key := (said(config), c.rare)) not in seen: seen.add(key); res.append((config, *key))
    return res

RATE = dict(digits=(1e-3,3), cifar10=(3e-4,1)) # As 'auto' has it: the plain rate, and how many times that a schedule gets which rises and comes down

def fixed(what, config):
    "The config with its rate written out, so that a card that multiplies it can"
    name = config.schedule if isinstance(config.schedule, str) else config.schedule['part']
    rate,more = RATE[what]
    return config.but(lr=rate*(more if name in ('one_cycle','warmup_cos') else 1)) if config.lr=='auto' else config

def sides(what, base, card):
    "What a card starts from, and what it makes of that; nothing, and a line, where it can't be"
    start = base.but(**card.against)
    if card.when and not any(card.when(start, dict(kind='single', any_way_up=True, pretrained=p)) for p in (True, False)): return   # not of such labels at all
    if callable(card.change): start = fixed(what, start)
    try: return fixed(what, start), fixed(what, card.child(start))
    except ValueError as e: print(f'{card.name} is not measured on {what}: {e}', file=sys.stderr)

def said(config):
    "A config as text, its weights by name alone"
    d = {k: v for k,v in config.to_dict().items()} | dict(weights=Path(str(config.weights)).name)
    return json.dumps(d, sort_keys=True)

def run(a):
    from cv_recipe.runs import versions
    have = [json.loads(l) for l in open(a.out)] if a.out.exists() else []
    done = {(r['what'], r['config'], r['rare'], r['seed']) for r in have if a.any_commit or r['code']==code()}
    todo = [(c, k, rare, s) for s in range(a.seeds) for c,k,rare in plan(a)]
    k,n = map(int, a.part.split('/'))
    for i,(config,key,rare,seed) in enumerate(todo):
        if i%n!=k-1 or (a.what, key, rare, seed) in done: continue
        try: res = train(a, a.what, config, seed, rare)
        except ValueError as e: res = dict(error=str(e))
        row = dict(what=a.what, config=key, rare=rare, seed=seed, **res, code=code(), commit=commit(), versions=versions())
        with open(a.out, 'a') as f: f.write(json.dumps(row)+'\n')
        print(f"{i+1}/{len(todo)} {a.what} seed {seed}", {k: v for k,v in json.loads(key).items() if k in ('schedule',) or v!=plan_default(k)}, res, flush=True)

def plan_default(k):
    from cv_recipe.pipe import Config
    return getattr(Config(), k)

# --- The table

def asked_only(card): return isinstance(card.change, dict) and set(card.change)=={'tta'}   # it costs when it predicts

def ranges(pairs, gains):
    "Spreads are shared among cards that are compared with the same thing, and with nothing else: against a constant rate they are several times as wide"
    from cv_recipe.stats import Interval, pooled_intervals
    group = {n: (p[0][0]['config'], p[0][0]['rare']) for n,p in pairs.items()}
    res = {}
    for g in dict.fromkeys(group.values()):
        names = [n for n in pairs if group[n]==g and any(gains[n])]
        res |= dict(zip(names, pooled_intervals([gains[n] for n in names])))
    return {n: res.get(n) or Interval(0., 0., 0., len(pairs[n])) for n in pairs}   # the same to the last digit on every seed

def table(a):
    from cv_recipe.cards import CARDS
    rows = [json.loads(l) for f in a.files for l in open(f)]
    if len(codes := {(r['what'], r['code']) for r in rows})>len({r['what'] for r in rows}): print(f'lines of several states of the code: {sorted(codes)}; the last of a case counts', file=sys.stderr)
    errors = [r for r in rows if 'error' in r]
    out = []
    for what in sorted({r['what'] for r in rows}):
        at = {(r['config'], r['rare'], r['seed']): r for r in rows if r['what']==what and 'error' not in r}
        keys = {json.dumps({k: v for k,v in json.loads(r['config']).items() if k!='weights'}, sort_keys=True): json.loads(r['config'])['weights'] for r in rows if r['what']==what}
        pairs = {}
        from cv_recipe.pipe import Config
        base = Config(schedule='one_cycle', **DATA[what][1])
        weights = next(iter(keys.values()))
        for c in CARDS.values():
            if not (both := sides(what, base, c)): continue
            ks = [json.dumps(o.to_dict() | dict(weights=weights), sort_keys=True) for o in both]
            seeds = sorted(s for k,r,s in at if k==ks[1] and r==c.rare and (ks[0], c.rare, s) in at)
            if len(seeds)>1: pairs[c.name] = [(at[ks[0], c.rare, s], at[ks[1], c.rare, s]) for s in seeds]
        metric = {n: 'balanced_accuracy' if CARDS[n].rare else 'accuracy' for n in pairs}
        gains = {n: [y[metric[n]]-x[metric[n]] for x,y in p] for n,p in pairs.items()}
        if not gains: continue
        for n,i in ranges(pairs, gains).items():
            p = pairs[n]
            cost = np.mean([y['seconds'] for _,y in p])/max(1e-9, np.mean([x['seconds'] for x,_ in p]))
            out.append(dict(card=n, data=what, metric=metric[n], base=round(float(np.mean([x[metric[n]] for x,_ in p])), 4), gain=round(i.value, 4), lo=round(i.lo, 4), hi=round(i.hi, 4), seeds=len(p), rows=p[0][0]['rows'], seconds=round(float(np.mean([y['seconds'] for _,y in p])), 1), cost=None if asked_only(CARDS[n]) else round(float(cost), 2)))
    df = pd.DataFrame(out)
    with pd.option_context('display.width', 200, 'display.max_rows', None): print(df.to_string(index=False))
    if errors: print(f'{len(errors)} runs failed:', *sorted({r['error'][:200] for r in errors}), sep='\n')
    if a.write: a.write.write_text(df.to_csv(index=False), encoding='utf-8')

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest='do', required=True)
    r = sub.add_parser('run'); r.add_argument('--what', choices=list(DATA), required=True)
    r.add_argument('--data', type=Path); r.add_argument('--weights', type=Path); r.add_argument('--cache', type=Path)
    r.add_argument('--seeds', type=int, default=5); r.add_argument('--only', nargs='*'); r.add_argument('--part', default='1/1')
    r.add_argument('--any-commit', action='store_true'); r.add_argument('--out', type=Path, default=Path('cards.jsonl'))
    t = sub.add_parser('table'); t.add_argument('files', nargs='+', type=Path); t.add_argument('--write', type=Path)
    a = ap.parse_args()
    dict(run=run, table=table)[a.do](a)

if __name__=='__main__': main()
