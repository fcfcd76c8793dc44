"""How often `compare` is wrong, and how often it finds what is there.

    python bench/compare.py run [--runs 40] [--pairs 20] [--out compare.jsonl]
    python bench/compare.py table compare.jsonl

`null`: one config, trained from `--runs` seeds on 150, 400 and 1,000 digits and judged on the same 400 others. All pairs of single runs are compared with a noise floor of five further seeds, and all pairs of disjoint triples of seeds without one. Whatever is called better or worse is wrong.
`planted`: 400 digits with a fifth of the training labels wrong, and the same with none wrong; `--pairs` times three seeds a side, other images each time. What is not called better is missed.

One JSON line a training run, with commit, versions and for each validation row, in the order of their ids, whether it was right; started again, only what is not there is done.
"""
import argparse, itertools, json, os, subprocess, sys, tempfile, warnings
from pathlib import Path
os.environ.update({k: os.environ.get('OMP_NUM_THREADS', '1') for k in ('OMP_NUM_THREADS','MKL_NUM_THREADS')} | dict(CV_RECIPE_OFFLINE='1'))
warnings.simplefilter('ignore')

import numpy as np

HERE = Path(__file__).resolve().parent.parent

def commit(): return subprocess.run(['git','-C',HERE,'rev-parse','--short','HEAD'], capture_output=True, text=True).stdout.strip()

def config():
    from cv_recipe.pipe import Config
    return Config(arch='test_resnet', channels=1, weights='random', size=32, bs=32, steps=80, lr=3e-3, schedule='one_cycle')

def source(n, deal, wrong=0.):
    "`n` digits to train on and 400 others; a share of the training labels is wrong"
    from cv_recipe.data import Source
    src = Source.digits()
    df = src.df.assign(path=[p.as_posix() for p in src.paths], split='')
    rng = np.random.default_rng(deal)
    order = df.index[rng.permutation(len(df))]
    df.loc[order[:n], 'split'],df.loc[order[n:n+400], 'split'] = 'train','valid'
    df = df[df.split!=''].copy()
    bad = rng.permutation(df.index[df.split=='train'])[:round(wrong*n)]
    df.loc[bad, 'label'] = [str((int(l)+k)%10) for l,k in zip(df.label[bad], rng.integers(1, 10, len(bad)))]
    return Source.from_df(df[['path','label','split']], folder='/', kind='single', test=0.)

def cases(a):
    "(name, rows, deal, share of wrong labels, seed)"
    for n in (150,400,1000): yield from (('null', n, 0, 0., s) for s in range(a.runs+5))
    for p in range(a.pairs): yield from (('planted', 400, 100+p, w, s) for w in (.2,0.) for s in range(3))

def run(a):
    from cv_recipe.core import stable_hash
    from cv_recipe.pipe import fit
    from cv_recipe.runs import versions
    have = [json.loads(l) for l in open(a.out)] if a.out.exists() else []
    done,sources = {tuple(r['case']) for r in have},{}
    for i,case in enumerate(todo := list(cases(a))):
        if case in done: continue
        _,n,deal,wrong,seed = case
        src = sources.setdefault((n, deal, wrong), source(n, deal, wrong))
        with tempfile.TemporaryDirectory() as d: kept = fit(src, config(), d, seed=seed, threads=1, device='cpu', board=False).array('valid')
        order = np.argsort(kept['id'])
        row = dict(case=case, rows=stable_hash(sorted(kept['id'])), right=''.join(map(str, (kept['pred'].argmax(1)==kept['target']).astype(int)[order])), commit=commit(), versions=versions())
        with open(a.out, 'a') as f: f.write(json.dumps(row)+'\n')
        if sys.stderr.isatty() or i%20==0: print(f'{i+1}/{len(todo)}', file=sys.stderr, flush=True)

def judged(r):
    "A line as `compare` takes it"
    from cv_recipe.compare import Judged
    right,ids = np.array(list(r['right']), float),np.array([f"{r['rows']}.{i:04}" for i in range(len(r['right']))])
    return Judged(ids, np.stack([right, 1-right], 1)[None], np.zeros(len(ids), int), ids, r['case'][4], source=str(r['case'][1:4]))

def table(a):
    from cv_recipe.compare import compare, spread_of
    from cv_recipe.stats import wilson
    from cv_recipe.task import SingleTask
    task = SingleTask(('right','wrong'))
    rows = [json.loads(l) for f in a.files for l in open(f)]
    claims = lambda pairs, floor=None: [compare(x, y, task, floor, several=True).verdict in ('better','worse') for x,y in pairs]
    for n in (150,400,1000):
        runs = [judged(r) for r in rows if r['case'][0]=='null' and r['case'][1]==n]
        if len(runs)<8: continue
        floor,rest = spread_of(runs[-5:], task),runs[:-5]
        one = claims(itertools.combinations(rest, 2), floor)
        threes = [rest[i:i+3] for i in range(0, len(rest)-2, 3)]
        three = claims(itertools.combinations(threes, 2))
        print(f'null, {n} rows, {len(rest)} runs: accuracy {np.mean([o.score(task) for o in rest]):.3f}; claims from single runs {np.mean(one):.3f} of {len(one)} pairs, from three seeds a side {np.mean(three):.3f} of {len(three)}')
    deals = sorted({r['case'][2] for r in rows if r['case'][0]=='planted'})
    found = []
    for d in deals:
        sides = [[judged(r) for r in rows if r['case'][:4]==['planted', 400, d, w]] for w in (0.,.2)]
        if all(len(s)==3 for s in sides): found.append(compare(*sides, task, several=True).verdict=='better')
    if found: print('planted: found in', wilson(sum(found), len(found)), f'of {len(found)}')

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest='do', required=True)
    r = sub.add_parser('run'); r.add_argument('--runs', type=int, default=40); r.add_argument('--pairs', type=int, default=20); r.add_argument('--out', type=Path, default=Path('compare.jsonl'))
    t = sub.add_parser('table'); t.add_argument('files', nargs='+', type=Path)
    a = ap.parse_args()
    dict(run=run, table=table)[a.do](a)

if __name__=='__main__': main()
