"""What does the report name first, where the cause is known?

    python bench/causes.py run --data DIR --weights FILE [--seeds 3] [--sets cifar10] [--only CAUSE...] [--out causes.jsonl]
    python bench/causes.py table causes.jsonl

DIR holds `cifar10/train` and `trashnet`, a folder a class. From each, with a seed: 1,500 images (150 or 250 a class), and

- clean: as they are; nothing of what follows may come first (more images may: these are 120 a class)
- labels: 20 % of the labels of all sides are another class's
- uneven: every second class has a tenth of its images
- few: 50 training images a class
- shortcut: a coloured border that tells the class in 95 % of the images, and another's in the others

`cv-recipe run` on these goes through all stages up to the learning curve; training is short, since it is not what is asked about. A line a case: what failed or warns, in the order of the report, with what it is said to be worth. Resumable.
"""
import argparse, json, os, subprocess, sys, tempfile, time, warnings
from pathlib import Path
os.environ.update({k: os.environ.get('OMP_NUM_THREADS', '1') for k in ('OMP_NUM_THREADS','MKL_NUM_THREADS')} | dict(CV_RECIPE_OFFLINE='1'))
warnings.simplefilter('ignore')

import numpy as np
import pandas as pd
from PIL import Image

CAUSES = dict(clean=None, labels='label noise', uneven='balance of classes', few='more images', shortcut='shortcut: ')

def files(data, name):
    root = data/name/'train' if (data/name/'train').is_dir() else data/name
    return pd.DataFrame([dict(path=p.as_posix(), label=p.parent.name) for p in sorted(root.glob('*/*')) if p.suffix.lower() in ('.jpg','.png','.jpeg')])

def planted(df, cause, seed, folder):
    "A table of paths, labels and sides with one cause in it"
    rng = np.random.default_rng(seed)
    classes = sorted(df.label.unique())
    each = 1500//len(classes)
    df = pd.concat([d.sample(min(each, len(d)), random_state=seed) for _,d in df.groupby('label')], ignore_index=True)
    df = df.sample(frac=1, random_state=seed, ignore_index=True)
    df['split'] = np.where(np.arange(len(df))%5==0, 'valid', 'train')
    if cause=='labels':
        at = rng.choice(len(df), len(df)//5, replace=False)
        df.loc[at, 'label'] = [classes[(classes.index(l)+rng.integers(1, len(classes)))%len(classes)] for l in df.label[at]]
    if cause=='uneven': df = df[(~df.label.isin(classes[::2])) | (rng.random(len(df))<.1)]
    if cause=='few':
        train = df[df.split=='train'].groupby('label').head(50)
        df = pd.concat([train, df[df.split=='valid']])
    if cause=='shortcut':
        colours = rng.integers(0, 256, (len(classes),3))
        rows = []
        for i,r in enumerate(df.itertuples()):
            k = classes.index(r.label) if rng.random()<.95 else rng.integers(len(classes))
            im = Image.open(r.path).convert('RGB'); w = max(2, round(.05*min(im.size)))
            a = np.array(im); a[:w],a[-w:],a[:,:w],a[:,-w:] = (colours[k],)*4
            Image.fromarray(a).save(p := folder/f'{i:05}.png'); rows.append(p.as_posix())
        df = df.assign(path=rows)
    return df

def case(a, name, cause, seed):
    from cv_recipe.core import plain
    from cv_recipe.data import Source
    from cv_recipe.recipe import Recipe
    with tempfile.TemporaryDirectory() as d:
        d = Path(d); (d/'planted').mkdir()
        src = Source.from_df(planted(files(a.data, name), cause, seed, d/'planted')[['path','label','split']], folder='/', kind='single', test=0.)
        began = time.process_time()
        r = Recipe(src, d/'run', steps=10, seed=seed, threads=1, device='cpu', until='more', asked=dict(weights=str(a.weights)), say=lambda *o: None)
        s = r.run()
        found = {f['name']: f for f in json.loads((d/'run'/'findings.json').read_text())}
        said = [dict(name=n, verdict=found[n]['verdict'], worth=round(found[n].get('worth') or 0, 3), value=plain(found[n].get('value'))) for n in s['fix_first']]
        others = {n: dict(verdict=found[n]['verdict'], why=found[n]['implication'][:200]) for n in ('label noise','more images','balance of classes') if n in found and n not in s['fix_first']}
        return dict(images=len(src), first=said[0]['name'] if said else None, found=said, others=others, seconds=round(time.process_time()-began, 1))

def run(a):
    from cv_recipe.runs import versions
    have = [json.loads(l) for l in open(a.out)] if a.out.exists() else []
    done = {(r['data'], r['cause'], r['seed']) for r in have}
    for seed in range(a.seeds):
        for name in a.sets:
            for cause in a.only or CAUSES:
                if (name, cause, seed) in done: continue
                row = dict(data=name, cause=cause, seed=seed, **case(a, name, cause, seed), versions=versions())
                with open(a.out, 'a') as f: f.write(json.dumps(row)+'\n')
                print(name, cause, seed, [f"{o['name']} {o['worth']}" for o in row['found'][:4]], f"{row['seconds']:.0f} s", flush=True)

def table(a):
    from cv_recipe.report import gravest
    rows = [json.loads(l) for l in open(a.files[0])]
    for r in rows: r['first'] = next((f['name'] for f in gravest(r['found'])), '')   # the order is the report's of today
    def right(r): return not r['first'].startswith(('label noise','balance of classes','shortcut: ')) if CAUSES[r['cause']] is None else r['first'].startswith(CAUSES[r['cause']])
    res = pd.DataFrame([dict(data=r['data'], cause=r['cause'], hit=right(r), first=r['first']) for r in rows])
    print(res.groupby(['data','cause']).agg(n=('hit','size'), right=('hit','sum'), first=('first', lambda s: ', '.join(sorted(set(s))))).to_string())

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest='do', required=True)
    r = sub.add_parser('run'); r.add_argument('--data', type=Path, required=True); r.add_argument('--weights', type=Path, required=True)
    r.add_argument('--seeds', type=int, default=3); r.add_argument('--sets', nargs='*', default=['cifar10']); r.add_argument('--only', nargs='*'); r.add_argument('--out', type=Path, default=Path('causes.jsonl'))
    t = sub.add_parser('table'); t.add_argument('files', nargs=1, type=Path)
    a = ap.parse_args()
    dict(run=run, table=table)[a.do](a)

if __name__=='__main__': main()
